using System.Net;
using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

[Collection(SecondLane.Name)]
public sealed class VolumeTests(Install install) : IAsyncLifetime
{
    private readonly Tenant tenant = new(install);

    public async Task InitializeAsync() => await tenant.InitializeAsync();

    public Task DisposeAsync() => Task.CompletedTask;

    private async Task<bool> HoldsAsync(string path, string text)
    {
        using var http = install.Site(Tenant.Host);
        using var response = await http.GetAsync("file" + path);
        return response.StatusCode == HttpStatusCode.OK && await response.Content.ReadAsStringAsync() == text;
    }

    private async Task<string> ContainerAsync() => (await install.DroidAsync("tenant")).Live!.Container;

    /// <summary>Waits until another container than before serves.</summary>
    private Task ReplacedAsync(string before) =>
        Install.EventuallyAsync(async () => await ContainerAsync() != before, TimeSpan.FromSeconds(30));

    [Fact]
    public async Task Volume_is_writable_and_outlives_redeploys_rollbacks_restarts_and_sleep_and_goes_by_command()
    {
        var first = await ContainerAsync();
        Assert.Contains("/kept", await install.MustAsync("volumes", "create", "tenant", "kept"), StringComparison.Ordinal);
        await ReplacedAsync(first);
        // The image runs as nobody, and has no such folder.
        await tenant.AskAsync(HttpMethod.Put, "file/kept/note", "still here");
        await install.MustAsync("restart", "tenant");
        Assert.True(await HoldsAsync("/kept/note", "still here"));
        await install.MustAsync("snooze", "tenant");
        Assert.True(await HoldsAsync("/kept/note", "still here"));
        await install.MustAsync("deploy", "tenant", new Folder(install, "tenant", "tenant-2").Write("targets.txt", "").Path);
        Assert.True(await HoldsAsync("/kept/note", "still here"));
        await install.MustAsync("rollback", "tenant");
        Assert.True(await HoldsAsync("/kept/note", "still here"));
        using var listed = JsonDocument.Parse(await install.MustAsync("volumes", "list", "tenant", "--json"));
        Assert.InRange(listed.RootElement.EnumerateArray().Single(v => v.GetProperty("name").GetString() == "kept").GetProperty("bytes").GetInt64(), 1, 1 << 20);

        var before = await ContainerAsync();
        Assert.Equal(2, (await install.AppoxyAsync("volumes", "remove", "tenant", "kept")).ExitCode);
        await install.MustAsync("volumes", "remove", "tenant", "kept", "--confirm", "kept");
        await ReplacedAsync(before);
        await Install.EventuallyAsync(async () =>
            (await install.DockerAsync("volume", "ls", "-q", "--filter", "label=appoxy.volume")).Output.Trim().Length == 0, TimeSpan.FromSeconds(60));
        Assert.False(await HoldsAsync("/kept/note", "still here"));
    }

    [Fact]
    public async Task Export_imports_again_and_what_is_no_archive_changes_nothing()
    {
        var first = await ContainerAsync();
        await install.MustAsync("volumes", "create", "tenant", "data", "/owned");
        await ReplacedAsync(first);
        try
        {
            await tenant.AskAsync(HttpMethod.Put, "file/owned/note", "one");
            var archive = Path.Combine(install.Prefix, "data.tar.gz");
            var export = await install.RunAsync("bash", ["-c", $"{install.Prefix}/bin/appoxy volumes export tenant data > {archive}"]);
            Assert.True(export.ExitCode == 0, export.ToString());
            Assert.Contains("./note", (await install.RunAsync("tar", ["-tzf", archive])).Output, StringComparison.Ordinal);
            await tenant.AskAsync(HttpMethod.Put, "file/owned/note", "two");

            var refused = await install.RunAsync("bash", ["-c", $"echo no archive | {install.Prefix}/bin/appoxy volumes import tenant data"]);
            Assert.NotEqual(0, refused.ExitCode);
            Assert.Single(refused.Error.Trim().Split('\n'));
            Assert.True(await HoldsAsync("/owned/note", "two"));

            var import = await install.RunAsync("bash", ["-c", $"{install.Prefix}/bin/appoxy volumes import tenant data < {archive}"]);
            Assert.True(import.ExitCode == 0, import.ToString());
            Assert.True(await HoldsAsync("/owned/note", "one"));
            // Still the app's own to write to.
            await tenant.AskAsync(HttpMethod.Put, "file/owned/note", "three");
        }
        finally
        {
            var before = await ContainerAsync();
            await install.MustAsync("volumes", "remove", "tenant", "data", "--confirm", "data");
            await ReplacedAsync(before);
        }
    }

    [Fact]
    public async Task Import_writes_nothing_outside_of_the_volume()
    {
        var first = await ContainerAsync();
        await install.MustAsync("volumes", "create", "tenant", "trap");
        await ReplacedAsync(first);
        try
        {
            var victim = Directory.CreateDirectory(Path.Combine(install.Prefix, "victim")).FullName;
            // A link, and a file behind it; a file above; a device.
            await File.WriteAllTextAsync(Path.Combine(install.Prefix, "trap.py"), $"""
                import io, sys, tarfile
                tar = tarfile.open(fileobj=sys.stdout.buffer, mode='w|gz')
                def add(name, kind=tarfile.REGTYPE, link='', data=b'x'):
                    entry = tarfile.TarInfo(name); entry.type, entry.linkname = kind, link
                    entry.size = len(data) if kind == tarfile.REGTYPE else 0
                    entry.devmajor, entry.devminor = 1, 3
                    tar.addfile(entry, io.BytesIO(data))
                add('out', tarfile.SYMTYPE, '{victim}'); add('out/through-link'); add('../../../../../../..{victim}/above'); add('{victim}/absolute')
                add('device', tarfile.CHRTYPE); add('good')
                tar.close()
                """);
            await install.RunAsync("bash", ["-c", $"python3 {install.Prefix}/trap.py | {install.Prefix}/bin/appoxy volumes import tenant trap"]);
            Assert.Empty(Directory.EnumerateFileSystemEntries(victim));
            var folder = Directory.EnumerateDirectories(Path.Combine(install.Prefix, "var/lib/appoxy/docker/volumes"), "appoxy-volume-*");
            Assert.DoesNotContain(folder, f => File.Exists(Path.Combine(f, "_data/device")) || Directory.Exists(Path.Combine(f, "_import")));
        }
        finally
        {
            var before = await ContainerAsync();
            await install.MustAsync("volumes", "remove", "tenant", "trap", "--confirm", "trap");
            await ReplacedAsync(before);
        }
    }

    [Theory]
    [InlineData("Data", "/data")]
    [InlineData("data", "data")]
    [InlineData("data", "/")]
    [InlineData("data", "/proc")]
    [InlineData("data", "/sys/fs")]
    [InlineData("data", "/dev")]
    [InlineData("data", "/a/../etc")]
    [InlineData("data", "/a//b")]
    public async Task Bad_names_and_places_are_refused_by_the_CLI_and_by_the_API(string name, string path)
    {
        var ran = await install.AppoxyAsync("volumes", "create", "tenant", name, path);
        Assert.Equal(2, ran.ExitCode);
        Assert.Single(ran.Error.Trim().Split('\n'));
        using var api = install.Api();
        using var response = await api.PostAsync("v1/apps/tenant/volumes",
            new StringContent($$"""{"name":"{{name}}","path":"{{path}}"}""", System.Text.Encoding.UTF8, "application/json"));
        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
        Assert.Equal("application/problem+json", response.Content.Headers.ContentType?.MediaType);
    }
}
