using Appoxy.Routerd;
using Appoxy.Routerd.Sealing;

namespace Appoxy.Tests.Unit;

/// <summary>How secrets are sealed, and what happens to them without the right key.</summary>
public sealed class SecretTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("appoxy-secrets-").FullName;

    [Fact]
    public void What_was_sealed_opens_in_its_own_place_alone()
    {
        var box = new SecretBox(New("a").Made());
        var envelope = box.Seal("käse \n x", SealedColumn.Env, "uid1", "NAME");
        Assert.Equal("käse \n x", box.Open(envelope, SealedColumn.Env, "uid1", "NAME"));
        Assert.Equal("", box.Open(box.Seal("", SealedColumn.Env, "uid1", "NAME"), SealedColumn.Env, "uid1", "NAME"));
        Assert.NotEqual(envelope, box.Seal("käse \n x", SealedColumn.Env, "uid1", "NAME"));
        foreach (var (column, row) in new (SealedColumn, string[])[]
        {
            (SealedColumn.Env, ["uid2", "NAME"]), (SealedColumn.Env, ["uid1", "NAMES"]), (SealedColumn.Env, ["uid1N", "AME"]),
            (SealedColumn.GitPassword, ["uid1", "NAME"]),
        })
            Assert.Equal(503, Assert.Throws<Problem>(() => box.Open(envelope, column, row)).Status);
        for (var i = 0; i < envelope.Length; i++)
        {
            var altered = (byte[])envelope.Clone();
            altered[i] ^= 1;
            Assert.Equal(503, Assert.Throws<Problem>(() => box.Open(altered, SealedColumn.Env, "uid1", "NAME")).Status);
        }
        Assert.Equal(503, Assert.Throws<Problem>(() => box.Open([], SealedColumn.Env, "uid1", "NAME")).Status);
    }

    [Fact]
    public void Newest_key_seals_and_older_ones_open_until_they_are_removed()
    {
        var keys = New("b").Made();
        var (box, first) = (new SecretBox(keys), keys.Newest.Id);
        var old = box.Seal("old", SealedColumn.DeployKey, "u");
        // Another process adds one, as routerd's other copies would.
        var second = New("b").Add().Id;
        Assert.Equal(second, keys.Newest.Id);
        Assert.Equal("old", box.Open(old, SealedColumn.DeployKey, "u"));
        var fresh = box.Seal("new", SealedColumn.DeployKey, "u");
        keys.Remove(first);
        Assert.Equal("new", box.Open(fresh, SealedColumn.DeployKey, "u"));
        Assert.Contains(first, Assert.Throws<Problem>(() => box.Open(old, SealedColumn.DeployKey, "u")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Key_file_that_is_missing_wrong_or_damaged_is_named()
    {
        var keys = New("c");
        Assert.Contains(keys.Path, Assert.Throws<Problem>(() => keys.Newest).Message, StringComparison.Ordinal);
        Assert.False(keys.Exists);
        keys.Add();
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(keys.Path));
        var envelope = new SecretBox(keys).Seal("x", SealedColumn.DeployKey, "u");
        var other = New("d").Made();
        Assert.Contains(other.Path, Assert.Throws<Problem>(() => new SecretBox(other).Open(envelope, SealedColumn.DeployKey, "u")).Message, StringComparison.Ordinal);
        foreach (var text in new[] { "", "# nothing\n", "no key\n", File.ReadAllText(keys.Path).Replace(keys.Newest.Id, "0123456789abcdef", StringComparison.Ordinal) })
        {
            File.WriteAllText(other.Path, text);
            Assert.Contains(other.Path, Assert.Throws<Problem>(() => other.Newest).Message, StringComparison.Ordinal);
        }
    }

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private SecretKeys New(string name) => new(new RouterdSettings { SecretsKey = Path.Combine(folder, name) }, TimeProvider.System);
}

internal static class MadeKeys
{
    public static SecretKeys Made(this SecretKeys keys)
    {
        keys.Add();
        return keys;
    }
}
