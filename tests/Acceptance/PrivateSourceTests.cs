using System.Diagnostics;
using System.Net;
using System.Text;
using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

/// <summary>Deploys from private repositories, with a key by ssh and a token by http.</summary>
[Collection(ThirdLane.Name)]
public sealed class PrivateSourceTests(Install install)
{
    [Fact]
    public async Task Deploy_key_opens_a_repository_by_ssh_and_a_changed_host_is_refused()
    {
        var repository = await install.RepositoryOfAsync("folder", "by-ssh");
        await install.MustAsync("apps", "create", "keyed");
        await using var server = await SshServer.StartAsync(install);
        var url = $"ssh://root@127.0.0.1:{server.Port}{repository.Folder}";
        await install.FailsAsync("keyed", FailureReasons.Source, "git can't fetch 'main'", "Permission denied", "--git", url, "--ref", "main");
        var key = (await install.MustAsync("deploy-key", "keyed")).Trim();
        Assert.StartsWith("ssh-ed25519 ", key, StringComparison.Ordinal);
        Assert.Equal(key, (await install.MustAsync("deploy-key", "keyed")).Trim());
        await server.AllowAsync(key);
        await install.MustAsync("deploy", "keyed", "--git", url, "--ref", "main");
        Assert.Equal("1\n", (await install.GetAsync("keyed.localhost")).Body);

        // The private part is nowhere but, sealed, in the database and in the spec.
        var uid = await install.SqlAsync("select uid from apps where name = 'keyed'");
        var droid = Path.Combine(install.Prefix, "var/lib/appoxy/droids", uid);
        var spec = JsonSerializer.Deserialize(await File.ReadAllTextAsync(Path.Combine(droid, "spec.json")), AppoxyJson.Default.DroidSpec)!;
        var secret = spec.GitAccess!.Key!.Split('\n')[2];
        Assert.Empty(Directory.EnumerateFiles(droid, "key", SearchOption.AllDirectories));
        Assert.DoesNotContain(secret, await install.MustAsync("apps", "info", "keyed", "--json"), StringComparison.Ordinal);
        Assert.DoesNotContain(secret, (await install.DockerAsync("inspect", uid)).Output, StringComparison.Ordinal);
        Assert.DoesNotContain(secret, await install.MustAsync("logs", "keyed", "--build", "2"), StringComparison.Ordinal);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(Path.Combine(droid, "spec.json")));

        await server.ChangeHostKeyAsync();
        await install.FailsAsync("keyed", FailureReasons.Source, "git can't fetch 'main'", "HOST IDENTIFICATION HAS CHANGED", "--git", url, "--ref", "main");
        await install.MustAsync("deploy-key", "keyed", "--remove");
        Assert.Equal(3, (await install.AppoxyAsync("deploy-key", "keyed", "--remove")).ExitCode);
        await install.MustAsync("apps", "destroy", "keyed", "--confirm", "keyed");
    }

    [Fact]
    public async Task Token_opens_a_repository_by_http_goes_to_no_other_host_and_shows_nowhere()
    {
        const string secret = "t0ken-of-the-test+/=";
        var repository = await install.RepositoryOfAsync("folder", "by-http");
        await install.MustAsync("apps", "create", "tokened");
        await using var server = new GitHttpServer(Path.GetDirectoryName(repository.Folder)!, secret);
        await using var other = new GitHttpServer(Path.GetDirectoryName(repository.Folder)!, secret);
        var url = $"http://127.0.0.1:{server.Port}/by-http/.git";
        await install.FailsAsync("tokened", FailureReasons.Source, "git can't fetch 'main'", "could not read Username", "--git", url, "--ref", "main");
        var file = Path.Combine(install.Prefix, "token");
        await File.WriteAllTextAsync(file, secret + "\n");
        await install.MustAsync("git-auth", "tokened", "--host", $"127.0.0.1:{server.Port}", "--username", "x", "--password-file", file);
        Assert.DoesNotContain(secret, await install.MustAsync("git-auth", "tokened", "--json"), StringComparison.Ordinal);
        server.Seen = () =>
        {
            var all = new StringBuilder();
            foreach (var process in Directory.EnumerateDirectories("/proc").Where(d => int.TryParse(Path.GetFileName(d), out _)))
            {
                try
                {
                    var line = File.ReadAllText(Path.Combine(process, "cmdline"));
                    all.Append(line).Append('\n');
                    if (line.Contains("git", StringComparison.Ordinal))
                        all.Append(File.ReadAllText(Path.Combine(process, "environ"))).Append('\n');
                }
                catch (Exception e) when (e is IOException or UnauthorizedAccessException)
                {
                    // It has ended meanwhile.
                }
            }
            return all.ToString();
        };
        await install.MustAsync("deploy", "tokened", "--git", url, "--ref", "main");
        Assert.Equal("1\n", (await install.GetAsync("tokened.localhost")).Body);
        Assert.Contains("git-remote-http", server.Sightings, StringComparison.Ordinal);
        Assert.DoesNotContain(secret, server.Sightings, StringComparison.Ordinal);
        Assert.DoesNotContain(Uri.EscapeDataString(secret), server.Sightings, StringComparison.Ordinal);

        // The same path at another port is another host.
        await install.FailsAsync("tokened", FailureReasons.Source, "git can't fetch 'main'", "could not read Username",
            "--git", url.Replace($":{server.Port}", $":{other.Port}", StringComparison.Ordinal), "--ref", "main");
        Assert.Equal(0, other.Authorized);

        var uid = await install.SqlAsync("select uid from apps where name = 'tokened'");
        var told = await install.MustAsync("apps", "info", "tokened", "--json") + await install.MustAsync("deployments", "tokened", "--json")
            + await install.MustAsync("logs", "tokened", "--build", "2") + (await install.DockerAsync("inspect", uid)).Output;
        foreach (var daemon in new[] { "routerd", "droidd" })
            told += await File.ReadAllTextAsync(Path.Combine(install.Prefix, "var/log/appoxy", daemon, "current"));
        Assert.DoesNotContain(secret, told, StringComparison.Ordinal);
        Assert.DoesNotContain(Uri.EscapeDataString(secret), told, StringComparison.Ordinal);
        var droid = Path.Combine(install.Prefix, "var/lib/appoxy/droids", uid);
        Assert.Empty(Directory.EnumerateFiles(droid, "credentials", SearchOption.AllDirectories));
        await install.MustAsync("git-auth", "tokened", "--host", $"127.0.0.1:{server.Port}", "--remove");
        await install.MustAsync("apps", "destroy", "tokened", "--confirm", "tokened");
    }

    /// <summary>OpenSSH's own server on a free port, with one list of keys.</summary>
    private sealed class SshServer(Install install, string folder, Process process, int port) : IAsyncDisposable
    {
        private Process process = process;

        public int Port => port;

        public static async Task<SshServer> StartAsync(Install install)
        {
            var folder = Directory.CreateDirectory(Path.Combine(install.Prefix, "sshd")).FullName;
            await NewHostKeyAsync(install, folder);
            await File.WriteAllTextAsync(Path.Combine(folder, "keys"), "");
            Directory.CreateDirectory("/run/sshd");
            var port = Install.FreePort();
            return new SshServer(install, folder, await RunAsync(folder, port), port);
        }

        public Task AllowAsync(string key) => File.WriteAllTextAsync(Path.Combine(folder, "keys"), key + "\n");

        public async Task ChangeHostKeyAsync()
        {
            await DisposeAsync();
            await NewHostKeyAsync(install, folder);
            process = await RunAsync(folder, port);
        }

        private static async Task NewHostKeyAsync(Install install, string folder)
        {
            File.Delete(Path.Combine(folder, "host"));
            var ran = await install.RunAsync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", Path.Combine(folder, "host")]);
            Assert.True(ran.ExitCode == 0, ran.ToString());
        }

        private static async Task<Process> RunAsync(string folder, int port)
        {
            var process = Process.Start(new ProcessStartInfo("/usr/sbin/sshd", ["-D", "-f", "/dev/null", "-E", Path.Combine(folder, "log"), "-p", $"{port}",
                "-o", "ListenAddress=127.0.0.1", "-h", Path.Combine(folder, "host"), "-o", $"AuthorizedKeysFile={folder}/keys", "-o", "StrictModes=no",
                "-o", "PidFile=none", "-o", "PasswordAuthentication=no", "-o", "PermitRootLogin=prohibit-password", "-o", "UsePAM=no"]))!;
            await Install.EventuallyAsync(async () =>
            {
                using var client = new System.Net.Sockets.TcpClient();
                try
                {
                    await client.ConnectAsync(IPAddress.Loopback, port);
                    return true;
                }
                catch (System.Net.Sockets.SocketException)
                {
                    return false;
                }
            }, TimeSpan.FromSeconds(10));
            return process;
        }

        public async ValueTask DisposeAsync()
        {
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync();
            process.Dispose();
        }
    }
}
