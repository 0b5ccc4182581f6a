using System.Net;
using System.Security.Cryptography;
using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

/// <summary>Backups: what is in them, which are refused, and a machine made from one.</summary>
[Collection(ThirdLane.Name)]
public sealed class BackupTests(Install install)
{
    [Fact]
    public async Task Backup_that_is_broken_cut_short_newer_or_locked_changes_nothing()
    {
        var folder = Directory.CreateDirectory(Path.Combine(install.Prefix, "backups")).FullName;
        var file = Path.Combine(folder, "plain");
        await BackUpAsync(install, file);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));
        var parts = (await install.RunAsync("tar", ["-tf", file])).Output;
        Assert.StartsWith("manifest\n", parts, StringComparison.Ordinal);
        var before = await StateAsync();

        var bytes = await File.ReadAllBytesAsync(file);
        await RefusedAsync(bytes[..(bytes.Length / 2)], "cut short");
        // A tar ends with up to 10 kB of nothing.
        await RefusedAsync(bytes[..^(12 << 10)], "cut short");
        await RefusedAsync("not a backup"u8.ToArray(), "no backup of Appoxy");
        var broken = (byte[])bytes.Clone();
        broken[bytes.Length / 2] ^= 1;
        await RefusedAsync(broken, "broken");
        var newer = bytes.AsSpan().IndexOf("appoxy-backup 1\n"u8);
        var changed = (byte[])bytes.Clone();
        changed[newer + "appoxy-backup ".Length] = (byte)'9';
        await RefusedAsync(changed, "newer Appoxy");
        // The install has apps, which would be lost.
        await install.MustAsync("apps", "create", "in-the-way");
        await RefusedAsync(bytes, "--force");
        await install.MustAsync("apps", "destroy", "in-the-way", "--confirm", "in-the-way");

        var (passphrase, wrong, locked) = (Path.Combine(folder, "passphrase"), Path.Combine(folder, "wrong"), Path.Combine(folder, "locked"));
        await File.WriteAllTextAsync(passphrase, RandomNumberGenerator.GetHexString(32));
        await File.WriteAllTextAsync(wrong, "wrong");
        await BackUpAsync(install, locked, "--passphrase-file", passphrase);
        Assert.DoesNotContain("manifest", (await install.RunAsync("strings", ["-n", "8", locked])).Output, StringComparison.Ordinal);
        await RefusedAsync(await File.ReadAllBytesAsync(locked), "--passphrase-file");
        await RefusedAsync(await File.ReadAllBytesAsync(locked), "does not open", "--passphrase-file", wrong);
        Assert.Equal(before, await StateAsync());
        Assert.Empty(Directory.EnumerateFileSystemEntries(folder, "*.parts"));
        Directory.Delete(folder, recursive: true);

        async Task RefusedAsync(byte[] content, string words, params string[] more)
        {
            var bad = Path.Combine(folder, "bad");
            await File.WriteAllBytesAsync(bad, content);
            var ran = await install.ProvisionAsync(["--prefix", install.Prefix, "--restore", bad, .. more]);
            Assert.True(ran.ExitCode == 1, ran.ToString());
            Assert.Contains(words, ran.Error, StringComparison.Ordinal);
            Assert.Single(ran.Error.Trim().Split('\n'));
        }

        async Task<string> StateAsync() => string.Join(' ', new[] { "routerd", "droidd", "postgres", "redis", "global_nginx", "local_nginx" }.Select(install.Pid))
            + await install.MustAsync("users", "list", "--json") + (await install.GetAsync("hello.localhost")).Status;
    }

    /// <summary>With APPOXY_TEST_BACKUP, since it sets up a machine twice.</summary>
    [Fact]
    public async Task Wiped_machine_is_the_same_again_from_a_backup()
    {
        if (Environment.GetEnvironmentVariable("APPOXY_TEST_BACKUP") is null)
            return;
        var one = new Install { Sample = true };
        var outside = Directory.CreateTempSubdirectory("appoxy-backup-").FullName;
        try
        {
            await one.InitializeAsync();
            var (folder, repository) = (Path.Combine(outside, "folder"), Path.Combine(outside, "repository"));
            foreach (var path in new[] { folder, repository })
            {
                Directory.CreateDirectory(Path.Combine(path, "cgi-bin"));
                File.Copy(Path.Combine(one.Prefix, "var/lib/appoxy/sample/hello/busybox"), Path.Combine(path, "busybox"));
                await File.WriteAllTextAsync(Path.Combine(path, "cgi-bin/env"), "#!/bin/busybox sh\necho\necho \"$GREETING\"\n");
                File.SetUnixFileMode(Path.Combine(path, "cgi-bin/env"), (UnixFileMode)0b111_101_101);
                await File.WriteAllTextAsync(Path.Combine(path, "Dockerfile"), """
                    FROM scratch
                    COPY busybox /bin/busybox
                    COPY cgi-bin /www/cgi-bin
                    USER 65534:65534
                    EXPOSE 7000
                    ENTRYPOINT ["/bin/busybox", "sh", "-c", "trap 'kill $!; exit 0' TERM INT; /bin/busybox httpd -f -p $PORT -h /www & wait"]
                    """);
            }
            var git = new GitRepository(one, repository);
            await git.GitAsync("init", "-q", "-b", "main");
            await git.CommitAsync("first");
            foreach (var app in new[] { "from-folder", "from-git" })
            {
                await one.MustAsync("apps", "create", app);
                await one.MustAsync("env", "set", app, $"GREETING=greetings of {app}");
                await one.MustAsync("domains", "add", app, app + ".example.org");
            }
            await one.MustAsync("volumes", "create", "from-folder", "kept", "/www/kept");
            await one.MustAsync("deploy", "from-folder", folder);
            await one.MustAsync("deploy", "from-git", "--git", git.Url, "--ref", "main");
            await File.WriteAllTextAsync(Path.Combine(outside, "kept.txt"), "kept");
            await one.RunAsync("tar", ["-C", outside, "-czf", Path.Combine(outside, "kept.tgz"), "kept.txt"]);
            var imported = await one.RunAsync("sh", ["-c", $"{one.Prefix}/bin/appoxy volumes import from-folder kept <{outside}/kept.tgz"]);
            Assert.True(imported.ExitCode == 0, imported.ToString());
            var token = (await one.MustAsync("tokens", "create", "kept", "--scope", "read")).Trim();
            await one.MustAsync("users", "invite", "ann@example.org");
            var before = await AnswersAsync();
            Assert.Contains("greetings of from-git", before, StringComparison.Ordinal);
            Assert.Contains("kept", before, StringComparison.Ordinal);

            var file = Path.Combine(outside, "backup");
            await File.WriteAllTextAsync(file + ".passphrase", "correct horse battery staple");
            await BackUpAsync(one, file, "--volumes", "--passphrase-file", file + ".passphrase");
            var gone = await one.ProvisionAsync("--prefix", one.Prefix, "--uninstall");
            Assert.True(gone.ExitCode == 0, gone.ToString());
            Assert.False(Directory.Exists(Path.Combine(one.Prefix, "var")));
            await BaseImages.WriteSettingsAsync(one);
            File.Delete(Path.Combine(one.Prefix, "etc/appoxy/droidd.local.json"));
            var restored = await one.ProvisionAsync("--prefix", one.Prefix, "--restore", file, "--passphrase-file", file + ".passphrase",
                "--http-port", $"{one.HttpPort}", "--https-port", $"{Install.FreePort()}", "--console-port", $"{one.ConsolePort}");
            Assert.True(restored.ExitCode == 0, restored.ToString());
            // Its stores have ports of their own now: reads install.json anew.
            _ = one.Pid("routerd");
            await Install.EventuallyAsync(async () => (await one.GetAsync("from-git.example.org", "/cgi-bin/env")).Status == HttpStatusCode.OK
                && (await one.GetAsync("from-folder.example.org", "/cgi-bin/env")).Status == HttpStatusCode.OK
                && (await one.GetAsync("hello.localhost")).Status == HttpStatusCode.OK, TimeSpan.FromMinutes(2));
            Assert.Equal(before, await AnswersAsync());

            async Task<string> AnswersAsync()
            {
                var all = "";
                foreach (var (host, path) in new[]
                {
                    ("from-folder.example.org", "/cgi-bin/env"), ("from-folder.localhost", "/cgi-bin/env"), ("from-folder.localhost", "/kept/kept.txt"),
                    ("from-git.example.org", "/cgi-bin/env"), ("hello.localhost", "/"),
                })
                    all += $"{host}{path}: {(await one.GetAsync(host, path)).Body}\n";
                using var http = LocalHttp.For($"http://127.0.0.1:{one.ConsolePort}/", TimeSpan.FromSeconds(30));
                http.DefaultRequestHeaders.Authorization = new("Bearer", token);
                all += JsonDocument.Parse(await http.GetStringAsync("v1/apps/from-git")).RootElement.GetProperty("domains") + "\n";
                foreach (var command in new[] { "env list from-git --json", "env list from-folder --json", "domains list from-folder --json", "users info ann@example.org --json", "volumes list from-folder --json" })
                    all += await one.MustAsync(command.Split(' '));
                all += await one.SqlAsync("select name, uid, (select count(*) from deployments where app_uid = uid) from apps order by name");
                return all;
            }
        }
        finally
        {
            await one.DisposeAsync();
            Directory.Delete(outside, recursive: true);
        }
    }

    private static async Task BackUpAsync(Install of, string file, params string[] more)
    {
        var ran = await of.ProvisionAsync(["--prefix", of.Prefix, "--backup", file, .. more]);
        Assert.True(ran.ExitCode == 0, ran.ToString());
    }
}
