using System.Formats.Tar;
using System.IO.Compression;
using System.Net;
using System.Net.Http.Json;
using System.Security.Cryptography;
using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

/// <summary>Deploys of a folder.</summary>
[Collection(SecondLane.Name)]
public sealed class UploadTests(Install install)
{
    private const string Always = "Dockerfile server.js";

    [Fact]
    public async Task Folder_is_deployed_without_what_its_ignore_files_name()
    {
        var folder = await MakeAsync("folder");
        folder.Write(".gitignore", "*.log\n/built/\n!keep.log\n").Write("a.log", "").Write("keep.log", "").Write("built/x", "").Write("sub/built/y", "")
            .Write(".dockerignore", "# a comment\n**/*.md\n!docs/important.md\ntmp\n").Write("README.md", "").Write("docs/other.md", "")
            .Write("docs/important.md", "").Write("tmp/z", "").Write("sub/tmp/z", "").Write("run.sh", "#!/bin/sh\n").Write(".git-is-not-this", "");
        File.CreateSymbolicLink(Path.Combine(folder.Path, "link"), "sub/built");
        File.SetUnixFileMode(Path.Combine(folder.Path, "run.sh"), (UnixFileMode)0b111_101_101);
        var ran = await install.AppoxyAsync("deploy", "folder", folder.Path);
        Assert.True(ran.ExitCode == 0, ran.ToString());
        Assert.Contains("Uploaded 12 files", ran.Error, StringComparison.Ordinal);
        Assert.Equal($".git-is-not-this .gitignore Dockerfile docs/important.md keep.log link@ run.sh server.js sub/built/y sub/tmp/z version.txt",
            (await install.GetAsync("folder.localhost", "/files")).Body.Replace(".dockerignore ", "", StringComparison.Ordinal));
        var again = await install.MustAsync("deploy", "folder", folder.Path);
        Assert.Contains("Nothing has changed since deployment 1", again, StringComparison.Ordinal);

        // What the app was built of is still there when its container and images are not.
        var droid = await install.DroidAsync("folder");
        await install.ServiceAsync("droidd", "down");
        await install.DockerAsync("rm", "-f", droid.Live!.Container);
        await install.DockerAsync("rmi", "-f", droid.Live.Image);
        await install.ServiceAsync("droidd", "up");
        await Install.EventuallyAsync(async () => (await install.GetAsync("folder.localhost")).Body == "1\n", TimeSpan.FromSeconds(60));

        await install.MustAsync("deploy", "folder", folder.Path, "--no-gitignore");
        Assert.Contains("a.log", (await install.GetAsync("folder.localhost", "/files")).Body, StringComparison.Ordinal);
        await install.MustAsync("apps", "destroy", "folder", "--confirm", "folder");
    }

    [Fact]
    public async Task Folder_in_a_repository_is_deployed_as_git_sees_it()
    {
        var repository = await install.RepositoryOfAsync("folder", "tracked");
        await File.WriteAllTextAsync(Path.Combine(repository.Folder, ".gitignore"), "dist\ncache\n");
        Directory.CreateDirectory(Path.Combine(repository.Folder, "dist"));
        foreach (var file in new[] { "Dockerfile", "server.js", "version.txt" })
            File.Copy(Path.Combine(repository.Folder, file), Path.Combine(repository.Folder, "dist", file));
        await File.WriteAllTextAsync(Path.Combine(repository.Folder, "dist/version.txt"), "built\n");
        await File.WriteAllTextAsync(Path.Combine(repository.Folder, "untracked"), "");
        await File.WriteAllTextAsync(Path.Combine(repository.Folder, "cache"), "");
        await install.MustAsync("apps", "create", "tracked");
        await install.MustAsync("deploy", "tracked", repository.Folder);
        Assert.Equal($".gitignore {Always} untracked version.txt", (await install.GetAsync("tracked.localhost", "/files")).Body);
        // A folder that the repository ignores is deployed on purpose.
        await install.MustAsync("deploy", "tracked", Path.Combine(repository.Folder, "dist"));
        Assert.Equal("built\n", (await install.GetAsync("tracked.localhost")).Body);
        await install.MustAsync("apps", "destroy", "tracked", "--confirm", "tracked");
    }

    [Fact]
    public async Task Dockerignore_holds_for_builds_from_git()
    {
        var repository = await install.RepositoryOfAsync("folder", "ignoring");
        await File.WriteAllTextAsync(Path.Combine(repository.Folder, ".dockerignore"), "*\n!server.js\n!version.txt\n!a/**/wanted\nDockerfile\n.dockerignore\n");
        Directory.CreateDirectory(Path.Combine(repository.Folder, "a/b/c"));
        await File.WriteAllTextAsync(Path.Combine(repository.Folder, "a/b/c/wanted"), "");
        await File.WriteAllTextAsync(Path.Combine(repository.Folder, "a/b/unwanted"), "");
        await repository.CommitAsync("more");
        await install.MustAsync("apps", "create", "ignoring");
        await install.MustAsync("deploy", "ignoring", "--git", repository.Url);
        Assert.Equal("a/b/c/wanted server.js version.txt", (await install.GetAsync("ignoring.localhost", "/files")).Body);
        await install.MustAsync("apps", "destroy", "ignoring", "--confirm", "ignoring");
    }

    [Fact]
    public async Task Upload_that_is_too_long_is_refused_with_the_limit()
    {
        var folder = await MakeAsync("large");
        await File.WriteAllBytesAsync(Path.Combine(folder.Path, "noise"), RandomNumberGenerator.GetBytes(9 << 20));
        var before = Directory.GetFiles(Path.Combine(install.Prefix, "var/lib/appoxy/droids"), "*.part", SearchOption.AllDirectories);
        var ran = await install.AppoxyAsync("deploy", "large", folder.Path);
        Assert.True(ran.ExitCode == 1, ran.ToString());
        Assert.Contains("longer than 8m", ran.Error, StringComparison.Ordinal);
        Assert.Equal(before, Directory.GetFiles(Path.Combine(install.Prefix, "var/lib/appoxy/droids"), "*.part", SearchOption.AllDirectories));
        Assert.Equal("[]", (await install.MustAsync("deployments", "large", "--json")).Trim());
        await install.MustAsync("apps", "destroy", "large", "--confirm", "large");
    }

    [Fact]
    public async Task Hostile_uploads_are_refused_and_write_nothing_outside()
    {
        await install.MustAsync("apps", "create", "hostile");
        var outside = Path.Combine(install.Prefix, "var/lib/appoxy/droids", (await UidAsync("hostile")), "deployments");
        foreach (var (what, bytes) in new (string, byte[])[]
        {
            ("leads out", Tar(new GnuTarEntry(TarEntryType.RegularFile, "../escaped"))),
            ("leads out", Tar(new GnuTarEntry(TarEntryType.RegularFile, "/tmp/escaped"))),
            ("leads out", Tar(new GnuTarEntry(TarEntryType.SymbolicLink, "a") { LinkName = "../.." })),
            ("neither a file", Tar(new GnuTarEntry(TarEntryType.Fifo, "fifo"))),
            ("no tar.gz", "not a tarball at all"u8.ToArray()),
            ("larger than 64m", Tar(new GnuTarEntry(TarEntryType.RegularFile, "zeros") { DataStream = new MemoryStream(new byte[65 << 20]) })),
        })
        {
            using var api = install.Api();
            using var body = new ByteArrayContent(bytes);
            using var response = await api.PostAsync("v1/apps/hostile/uploads", body);
            Assert.Equal(HttpStatusCode.Created, response.StatusCode);
            var id = JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement.GetProperty("id").GetString();
            using var deployment = new StringContent($$$"""{"source":{"upload":"{{{id}}}"}}""", System.Text.Encoding.UTF8, "application/json");
            using var begun = await api.PostAsync("v1/apps/hostile/deployments", deployment);
            Assert.Equal(HttpStatusCode.Accepted, begun.StatusCode);
            var number = JsonDocument.Parse(await begun.Content.ReadAsStringAsync()).RootElement.GetProperty("number").GetInt32();
            var log = await api.GetStringAsync($"v1/apps/hostile/deployments/{number}/log?follow=true");
            Assert.Contains(what, log, StringComparison.Ordinal);
            Assert.False(File.Exists(Path.Combine(outside, "escaped")) || File.Exists(Path.Combine(outside, $"{number}/escaped")) || File.Exists("/tmp/escaped"));
        }
        await install.MustAsync("apps", "destroy", "hostile", "--confirm", "hostile");
    }

    private async Task<Folder> MakeAsync(string name)
    {
        await install.MustAsync("apps", "create", name);
        return new Folder(install, "folder", name);
    }

    private async Task<string> UidAsync(string app) =>
        JsonDocument.Parse(await install.MustAsync("apps", "info", app, "--json")).RootElement.GetProperty("uid").GetString()!;

    private static byte[] Tar(TarEntry entry)
    {
        using var bytes = new MemoryStream();
        using (var zip = new GZipStream(bytes, CompressionLevel.Fastest, leaveOpen: true))
        using (var tar = new TarWriter(zip, TarEntryFormat.Gnu))
            tar.WriteEntry(entry);
        return bytes.ToArray();
    }
}
