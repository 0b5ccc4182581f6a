using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Appoxy.Routerd.Sealing;

/// <summary>A key that secrets are sealed with.</summary>
/// <param name="Id">16 hex digits, made of the key itself: a wrong key has another id.</param>
/// <param name="Key">256 bits.</param>
/// <param name="MadeAt">When it was made.</param>
internal sealed record SecretKey(string Id, byte[] Key, DateTimeOffset MadeAt);

/// <summary>
/// The key file, apart from the database: a line for each key, <c>id base64 time</c>, oldest first. The newest seals, all of them open. It is
/// read anew when it has changed, so that no routerd needs a restart for a new key.
/// </summary>
internal sealed class SecretKeys(RouterdSettings settings, TimeProvider time)
{
    private const int KeyBytes = 32;
    private readonly Lock gate = new();
    private (DateTime Written, long Length) seen;
    private IReadOnlyList<SecretKey> keys = [];

    /// <summary>Where the file is.</summary>
    public string Path => settings.SecretsKey;

    public bool Exists => File.Exists(Path);

    /// <summary>The keys, newest last; at least one.</summary>
    /// <exception cref="Problem">503, naming the file: it is missing, or not to be read.</exception>
    public IReadOnlyList<SecretKey> All
    {
        get
        {
            lock (gate)
            {
                var file = new FileInfo(Path);
                if (!file.Exists)
                    throw Fault("is missing");
                if (keys.Count > 0 && seen == (file.LastWriteTimeUtc, file.Length))
                    return keys;
                try
                {
                    keys = [.. File.ReadLines(Path).Where(l => l.Length > 0 && l[0] != '#').Select(Read)];
                }
                catch (Exception e) when (e is FormatException or IOException or UnauthorizedAccessException)
                {
                    throw Fault($"can't be read ({e.Message})");
                }
                seen = (file.LastWriteTimeUtc, file.Length);
                return keys.Count > 0 ? keys : throw Fault("holds no key");
            }
        }
    }

    /// <exception cref="Problem">503: the file can't be used.</exception>
    public SecretKey Newest => All[^1];

    /// <summary>Null where the file has no such key.</summary>
    public SecretKey? Find(string id) => All.FirstOrDefault(k => k.Id == id);

    public Problem Fault(string fault) => Problem.Unavailable(
        $"Secrets can't be used: the key file {Path} {fault}. Put it back from a backup; what runs keeps serving (docs/secrets.md).");

    /// <summary>Adds a key, which seals from now on; makes the file if it is not there.</summary>
    public SecretKey Add()
    {
        lock (gate)
        {
            var before = Exists ? All : [];
            var bytes = RandomNumberGenerator.GetBytes(KeyBytes);
            var key = new SecretKey(IdOf(bytes), bytes, time.GetUtcNow());
            Write([.. before, key]);
            return key;
        }
    }

    public void Remove(string id)
    {
        lock (gate)
            Write([.. All.Where(k => k.Id != id)]);
    }

    private static SecretKey Read(string line)
    {
        if (line.Split(' ') is not [var id, var text, var made])
            throw new FormatException("a line is not: id, key, time");
        var bytes = Convert.FromBase64String(text);
        if (bytes.Length != KeyBytes || IdOf(bytes) != id)
            throw new FormatException($"key {id} is damaged");
        return new SecretKey(id, bytes, DateTimeOffset.Parse(made, CultureInfo.InvariantCulture));
    }

    private static string IdOf(byte[] key) => Convert.ToHexStringLower(SHA256.HashData([.. "appoxy key id"u8, .. key]))[..(2 * SecretBox.IdBytes)];

    private void Write(IReadOnlyList<SecretKey> all)
    {
        var text = new StringBuilder("# Appoxy's keys of secrets. Without them env, git passwords and the like in Postgres are lost: keep a copy elsewhere.\n");
        foreach (var key in all)
            text.Append(CultureInfo.InvariantCulture, $"{key.Id} {Convert.ToBase64String(key.Key)} {key.MadeAt:yyyy-MM-ddTHH:mm:ssZ}\n");
        var next = Path + ".next";
        File.Delete(next);
        using (var file = new FileStream(next, new FileStreamOptions
        {
            Mode = FileMode.CreateNew, Access = FileAccess.Write, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        }))
        {
            file.Write(Encoding.UTF8.GetBytes(text.ToString()));
            file.Flush(flushToDisk: true);
        }
        File.Move(next, Path, overwrite: true);
        seen = default;
    }
}
