using System.Net;
using System.Text.Json;
using CliWrap;
using CliWrap.EventStream;

namespace Appoxy.Tests.Acceptance;

public sealed class DeployTests(Install install) : ShopTests(install)
{
    [Fact]
    public async Task Node_app_is_deployed_and_answers_with_its_packages()
    {
        var (status, body, _) = await Install.GetAsync(Shop.Host);
        Assert.Equal(HttpStatusCode.OK, status);
        Assert.Contains($"at {Shop.Host}", body, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Build_log_streams_line_by_line_while_it_builds()
    {
        // A new line in package.json makes npm run again, which takes its seconds.
        await Shop.Repository.ReplaceAsync("package.json", "\"private\": true,", "\"private\": true,\n  \"description\": \"a shop\",");
        var lines = new List<(DateTimeOffset At, string Text)>();
        var exitCode = -1;
        await foreach (var happened in Install.Command(Path.Combine(Install.Prefix, "bin/appoxy"), "deploy", "shop", "--git", Shop.Repository.Url, "--ref", "main")
            .WithValidation(CommandResultValidation.None).ListenAsync())
        {
            if (happened is StandardOutputCommandEvent { Text: var text })
                lines.Add((DateTimeOffset.UtcNow, text));
            else if (happened is ExitedCommandEvent exited)
                exitCode = exited.ExitCode;
        }
        Assert.Equal(0, exitCode);
        var npm = lines.First(l => l.Text.Contains("npm ci", StringComparison.Ordinal));
        var live = lines.Last(l => l.Text.Contains("Live", StringComparison.Ordinal));
        Assert.True(live.At - npm.At > TimeSpan.FromSeconds(1), "the log came all at once");
        Assert.True(lines.Select(l => l.At.Ticks / TimeSpan.TicksPerMillisecond / 50).Distinct().Count() > 3, "the log came in a few lumps");
        // Exit 0 means that it answers: asked at once.
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
    }

    [Fact]
    public async Task Broken_Dockerfile_fails_with_its_log_and_the_previous_version_keeps_serving()
    {
        var before = (await Install.GetAsync(Shop.Host)).Body;
        await Shop.Repository.ReplaceAsync("Dockerfile", "USER nobody", "RUN echo about to fail && exit 9\nUSER nobody");
        try
        {
            await using var load = new Load(Install, Shop.Host);
            var ran = await Install.AppoxyAsync("deploy", "shop", "--git", Shop.Repository.Url, "--ref", "main");
            Assert.Equal(1, ran.ExitCode);
            Assert.Contains("about to fail", ran.Output, StringComparison.Ordinal);
            Assert.Contains("9", ran.Error, StringComparison.Ordinal);
            await load.EndAsync(atLeast: 10);
            Assert.Equal(before, (await Install.GetAsync(Shop.Host)).Body);
        }
        finally
        {
            await Shop.Repository.ReplaceAsync("Dockerfile", "RUN echo about to fail && exit 9\n", "");
        }
        var newest = JsonDocument.Parse(await Install.MustAsync("deployments", "shop", "--json")).RootElement[0];
        Assert.Equal("failed", newest.GetProperty("state").GetString());
        Assert.Contains("about to fail", await Install.MustAsync("logs", "shop", "--build", newest.GetProperty("number").ToString()), StringComparison.Ordinal);
    }

    [Fact]
    public async Task New_version_replaces_the_old_one_without_a_failed_request()
    {
        await Shop.Repository.ReplaceAsync("server.js", "send(`shop ", "send(`great shop ");
        await using var load = new Load(Install, Shop.Host);
        await Install.MustAsync("deploy", "shop", "--git", Shop.Repository.Url, "--ref", "main");
        Assert.StartsWith("great shop", (await Install.GetAsync(Shop.Host)).Body, StringComparison.Ordinal);
        await Task.Delay(TimeSpan.FromSeconds(2));
        await load.EndAsync(atLeast: 50);
        await Shop.Repository.ReplaceAsync("server.js", "send(`great shop ", "send(`shop ");
    }

    [Fact]
    public async Task Env_reaches_the_app_without_a_new_build()
    {
        await Install.MustAsync("env", "set", "shop", "GREETING=good day $HOME \"x\"");
        await Install.EventuallyAsync(async () => (await Install.GetAsync(Shop.Host, "/env/GREETING")).Body == "good day $HOME \"x\"", TimeSpan.FromSeconds(30));
        await Install.MustAsync("env", "unset", "shop", "GREETING");
        await Install.EventuallyAsync(async () => (await Install.GetAsync(Shop.Host, "/env/GREETING")).Body == "", TimeSpan.FromSeconds(30));
    }

    [Fact]
    public async Task Unknown_ref_fails_and_says_so()
    {
        var ran = await Install.AppoxyAsync("deploy", "shop", "--git", Shop.Repository.Url, "--ref", "no-such-branch");
        Assert.Equal(1, ran.ExitCode);
        Assert.Contains("no-such-branch", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Destroyed_app_leaves_nothing_behind()
    {
        await Install.MustAsync("apps", "create", "gone");
        await Install.MustAsync("deploy", "gone", "--image", "appoxy/" + (await Install.DroidAsync("hello")).Uid + ":1");
        var uid = (await Install.DroidAsync("gone")).Uid;
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync("gone.localhost")).Status);
        await Install.MustAsync("apps", "destroy", "gone", "--confirm", "gone");
        await Install.EventuallyAsync(async () => (await Install.GetAsync("gone.localhost")).Status == HttpStatusCode.NotFound, TimeSpan.FromSeconds(2));
        await Install.EventuallyAsync(async () => (await Install.DockerAsync("ps", "-aq", "--filter", $"label=appoxy.uid={uid}")).Output == "",
            TimeSpan.FromSeconds(15));
        Assert.Equal("", (await Install.DockerAsync("images", "-q", $"appoxy/{uid}")).Output);
    }
}
