using System.Net;
using System.Security.Cryptography;
using CliWrap;
using CliWrap.Buffered;
using CliWrap.EventStream;

namespace Appoxy.Tests.Acceptance;

/// <summary>Deploys by <c>git push</c>.</summary>
[Collection(ThirdLane.Name)]
public sealed class GitPushTests(Install install)
{
    [Fact]
    public async Task Push_deploys_the_commit_and_streams_its_log_and_a_failed_build_refuses_it()
    {
        await using var app = await MakeAsync("pushed");
        var dockerfile = await File.ReadAllTextAsync(Path.Combine(app.Folder, "Dockerfile"));
        await app.WriteAsync("Dockerfile", dockerfile.Replace("\nWORKDIR", "\nRUN sleep 1\nWORKDIR", StringComparison.Ordinal));
        var lines = new List<(DateTimeOffset At, string Text)>();
        var exitCode = -1;
        await foreach (var happened in app.Git("push", "appoxy", "main").WithValidation(CommandResultValidation.None).ListenAsync())
        {
            if (happened is StandardErrorCommandEvent { Text: var text })
                lines.Add((DateTimeOffset.UtcNow, text));
            else if (happened is ExitedCommandEvent exited)
                exitCode = exited.ExitCode;
        }
        var said = string.Join('\n', lines.Select(l => l.Text));
        Assert.True(exitCode == 0, said);
        var building = lines.First(l => l.Text.Contains("-----> Building commit", StringComparison.Ordinal));
        Assert.StartsWith("remote: ", building.Text, StringComparison.Ordinal);
        var live = lines.First(l => l.Text.Contains("-----> Live", StringComparison.Ordinal));
        Assert.True(live.At - building.At > TimeSpan.FromMilliseconds(500), "the log came all at once");
        Assert.Equal("1\n", (await install.GetAsync("pushed.localhost")).Body);
        var newest = await install.NewestAsync("pushed");
        var commit = (await app.MustAsync("rev-parse", "HEAD")).Trim();
        Assert.Equal(commit, newest.GetProperty("commit").GetString());

        // Another branch is kept and deploys nothing.
        await app.MustAsync("checkout", "-q", "-b", "feature");
        await app.WriteAsync("version.txt", "feature\n");
        var kept = await app.RunAsync("push", "appoxy", "feature");
        Assert.True(kept.ExitCode == 0, kept.ToString());
        Assert.Contains("feature is kept, not deployed", kept.Error, StringComparison.Ordinal);
        Assert.Equal("1\n", (await install.GetAsync("pushed.localhost")).Body);

        // A build that fails refuses the push, and the version before serves on.
        await app.MustAsync("checkout", "-q", "main");
        await app.WriteAsync("Dockerfile", "FROM appoxy-test/node:18\nRUN echo =ok; echo about to fail && exit 9\n");
        var refused = await app.RunAsync("push", "appoxy", "main");
        Assert.NotEqual(0, refused.ExitCode);
        Assert.Contains("about to fail", refused.Error, StringComparison.Ordinal);
        Assert.Contains("pre-receive hook declined", refused.Error, StringComparison.Ordinal);
        Assert.StartsWith(commit, await app.MustAsync("ls-remote", "appoxy", "main"), StringComparison.Ordinal);
        Assert.Equal("1\n", (await install.GetAsync("pushed.localhost")).Body);

        // History may be rewritten, and what was pushed can be fetched again.
        await app.MustAsync("reset", "-q", "--hard", "HEAD~1");
        await app.WriteAsync("version.txt", "2\n", "--amend");
        await app.MustAsync("push", "-q", "--force", "appoxy", "main");
        Assert.Equal("2\n", (await install.GetAsync("pushed.localhost")).Body);
        await app.MustAsync("clone", "-q", app.Url, Path.Combine(app.Folder, ".git/clone"));
        Assert.Equal("2\n", await File.ReadAllTextAsync(Path.Combine(app.Folder, ".git/clone/version.txt")));
        var clone = await install.RunAsync("git", ["-C", app.Folder, "push", app.Url.Replace("pushed", "nothing", StringComparison.Ordinal), "main"]);
        Assert.NotEqual(0, clone.ExitCode);
        Assert.DoesNotContain(install.Token, await File.ReadAllTextAsync(Path.Combine(install.Prefix, "var/log/appoxy/global-access.log")), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Only_the_owner_pushes_and_fetches()
    {
        await using var app = await MakeAsync("guarded");
        var other = await MemberAsync("pusher@example.org");
        foreach (var (password, status) in new[] { ("", HttpStatusCode.Unauthorized), ("apx_wrong", HttpStatusCode.Unauthorized), (other, HttpStatusCode.NotFound) })
        {
            foreach (var service in new[] { "git-receive-pack", "git-upload-pack" })
                Assert.Equal(status, await AskAsync(HttpMethod.Get, $"git/guarded.git/info/refs?service={service}", password));
            Assert.Equal(status, await AskAsync(HttpMethod.Post, "git/guarded.git/git-receive-pack", password));
        }
        Assert.Equal(HttpStatusCode.OK, await AskAsync(HttpMethod.Get, "git/guarded.git/info/refs?service=git-upload-pack", install.Token));
        foreach (var path in new[] { "git/..%2F..%2Fguarded.git/info/refs?service=git-upload-pack", "git/guarded.git/../../etc/passwd",
            "git/guarded.git/HEAD", "git/guarded.git/objects/info/packs", "git/.hooks/pre-receive", "git/nothing.git/info/refs?service=git-upload-pack" })
            Assert.Equal(HttpStatusCode.NotFound, await AskAsync(HttpMethod.Get, path, install.Token));
        Assert.Equal(HttpStatusCode.Forbidden, await AskAsync(HttpMethod.Get, "git/guarded.git/info/refs", install.Token));
        Assert.Equal(HttpStatusCode.NotFound, await AskAsync(HttpMethod.Post, "git/pushes", install.Token));
        // Neither does a token in a URL of the API count as one in the header.
        using var api = install.Api();
        api.DefaultRequestHeaders.Authorization = new("Basic", Basic(install.Token));
        Assert.Equal(HttpStatusCode.Unauthorized, (await api.GetAsync("v1/apps")).StatusCode);
    }

    [Fact]
    public async Task Push_that_is_too_long_and_odd_refs_are_refused()
    {
        await using var app = await MakeAsync("heavy");
        var odd = await app.RunAsync("push", "appoxy", "main:refs/odd/x");
        Assert.NotEqual(0, odd.ExitCode);
        Assert.Contains("Only branches and tags", odd.Error, StringComparison.Ordinal);
        // Past the limit of uploads, which holds for what is unpacked of a push: the droid-server's own words reach the pusher.
        await File.WriteAllBytesAsync(Path.Combine(app.Folder, "noise"), RandomNumberGenerator.GetBytes(9 << 20));
        await app.CommitAsync("noise");
        var refused = await app.RunAsync("push", "appoxy", "main");
        Assert.NotEqual(0, refused.ExitCode);
        Assert.Contains("longer than 8m", refused.Error, StringComparison.Ordinal);
        // Past routerd's own.
        await File.WriteAllBytesAsync(Path.Combine(app.Folder, "noise"), RandomNumberGenerator.GetBytes(70 << 20));
        await app.CommitAsync("more noise");
        await File.WriteAllBytesAsync(Path.Combine(app.Folder, "noise2"), RandomNumberGenerator.GetBytes(40 << 20));
        await app.CommitAsync("more noise");
        var giant = await app.RunAsync("push", app.Url.Replace($"console.localhost:{install.HttpPort}", $"127.0.0.1:{install.ConsolePort}", StringComparison.Ordinal), "main");
        Assert.NotEqual(0, giant.ExitCode);
        Assert.Equal("", await app.MustAsync("ls-remote", "appoxy"));
        var repository = Path.Combine(install.Prefix, "var/lib/appoxy/git", (await UidAsync("heavy")) + ".git");
        Assert.True(new DirectoryInfo(repository).EnumerateFiles("*", SearchOption.AllDirectories).Sum(f => f.Length) < 20 << 20);
    }

    private async Task<HttpStatusCode> AskAsync(HttpMethod method, string path, string password)
    {
        using var http = LocalHttp.For($"http://127.0.0.1:{install.ConsolePort}/", TimeSpan.FromSeconds(30));
        using var request = new HttpRequestMessage(method, path);
        if (password.Length > 0)
            request.Headers.Authorization = new("Basic", Basic(password));
        if (method == HttpMethod.Post)
            request.Content = new ByteArrayContent("0000"u8.ToArray());
        using var response = await http.SendAsync(request);
        if (response.StatusCode == HttpStatusCode.Unauthorized)
            Assert.StartsWith("Basic ", response.Headers.WwwAuthenticate.ToString(), StringComparison.Ordinal);
        return response.StatusCode;
    }

    private static string Basic(string password) => Convert.ToBase64String(System.Text.Encoding.UTF8.GetBytes("me:" + password));

    /// <summary>A token of a user who is no admin.</summary>
    private async Task<string> MemberAsync(string email)
    {
        var token = "apx_" + RandomNumberGenerator.GetHexString(40);
        var hash = Convert.ToHexString(SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(token)));
        await install.SqlAsync($"""
            with u as (insert into users (email, password_hash, role) values ('{email}', '', 'member') returning id)
            insert into tokens (user_id, name, hash) select id, 'test', decode('{hash}', 'hex') from u
            """);
        return token;
    }

    private async Task<string> UidAsync(string app) => await install.SqlAsync($"select uid from apps where name = '{app}'");

    private async Task<PushedApp> MakeAsync(string name)
    {
        await install.MustAsync("apps", "create", name);
        var repository = await install.RepositoryOfAsync("folder", "push-" + name);
        var url = (await install.MustAsync("git", "url", name)).Trim();
        Assert.Equal($"http://console.localhost:{install.HttpPort}/git/{name}.git", url);
        var added = await install.Command(Path.Combine(install.Prefix, "bin/appoxy"), "git", "remote", name)
            .WithWorkingDirectory(repository.Folder).WithValidation(CommandResultValidation.None).ExecuteBufferedAsync();
        Assert.Equal(0, added.ExitCode);
        return new PushedApp(install, repository.Folder, name, url);
    }

    /// <summary>A repository that is pushed to an app.</summary>
    private sealed class PushedApp(Install install, string folder, string name, string url) : IAsyncDisposable
    {
        public string Folder => folder;

        public string Url => url;

        /// <summary>git with the token by its own askpass, as a user's credential helper would give it.</summary>
        public Command Git(params string[] arguments) => Cli.Wrap("git")
            .WithArguments(["-C", folder, "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "credential.helper=", "-c",
                "credential.helper=!f() { echo username=me; echo password=$APPOXY_TOKEN; }; f", .. arguments])
            .WithEnvironmentVariables(env => env.Set("APPOXY_TOKEN", install.Token).Set("GIT_TERMINAL_PROMPT", "0").Set("no_proxy", "*"));

        public async Task<Ran> RunAsync(params string[] arguments)
        {
            using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(3));
            var (output, error) = (new System.Text.StringBuilder(), new System.Text.StringBuilder());
            var ran = await Git(arguments).WithValidation(CommandResultValidation.None).WithStandardOutputPipe(PipeTarget.ToStringBuilder(output))
                .WithStandardErrorPipe(PipeTarget.ToStringBuilder(error)).ExecuteAsync(limit.Token);
            return new Ran(ran.ExitCode, output.ToString(), error.ToString());
        }

        public async Task<string> MustAsync(params string[] arguments)
        {
            var ran = await RunAsync(arguments);
            Assert.True(ran.ExitCode == 0, $"git {string.Join(' ', arguments)}: {ran}");
            return ran.Output;
        }

        public async Task WriteAsync(string file, string text, params string[] commit)
        {
            await File.WriteAllTextAsync(Path.Combine(folder, file), text);
            await CommitAsync(file, commit);
        }

        public async Task CommitAsync(string message, params string[] commit)
        {
            await MustAsync("add", "-A");
            await MustAsync(["commit", "-q", "-m", message, .. commit]);
        }

        public async ValueTask DisposeAsync()
        {
            var path = Path.Combine(install.Prefix, "var/lib/appoxy/git", await install.SqlAsync($"select uid from apps where name = '{name}'") + ".git");
            Assert.True(Directory.Exists(path));
            await install.MustAsync("apps", "destroy", name, "--confirm", name);
        }
    }
}
