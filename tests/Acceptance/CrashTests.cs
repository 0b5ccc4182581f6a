using System.Net;
using System.Text.Json;
using CliWrap;
using CliWrap.EventStream;

namespace Appoxy.Tests.Acceptance;

[Collection(SecondLane.Name)]
public sealed class CrashTests(Install install) : ShopTests(install)
{
    [Fact]
    public async Task Killed_routerd_and_droidd_cost_no_request_and_all_state_is_right_afterwards()
    {
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
        var before = await StateAsync();
        await using var load = new Load(Install, Shop.Host);
        for (var round = 0; round < 3; round++)
        {
            await Install.KillAsync("routerd");
            await Install.KillAsync("droidd");
            await Task.Delay(TimeSpan.FromSeconds(1));
        }
        await ReadyAsync();
        await load.EndAsync(atLeast: 100);
        Assert.Equal(before, await StateAsync());
        await Install.MustAsync("domains", "add", "shop", "after.crash.test");
        await Install.EventuallyAsync(async () => (await Install.GetAsync("after.crash.test")).Status == HttpStatusCode.OK, TimeSpan.FromSeconds(5));
        await Install.MustAsync("snooze", "shop");
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
    }

    [Theory]
    [InlineData("routerd")]
    [InlineData("droidd")]
    public async Task Deploy_that_runs_while_a_daemon_is_killed_ends_as_live_or_failed(string daemon)
    {
        await Shop.Repository.ReplaceAsync("package.json", "\"private\": true,", $"\"private\": true,\n  \"keywords\": [\"{daemon}{Random.Shared.Next()}\"],");
        await using var load = new Load(Install, Shop.Host);
        var killed = false;
        var exitCode = -1;
        var errors = "";
        await foreach (var happened in Install.Command(Path.Combine(Install.Prefix, "bin/appoxy"), "deploy", "shop", "--git", Shop.Repository.Url, "--ref", "main")
            .WithValidation(CommandResultValidation.None).ListenAsync())
        {
            if (happened is StandardOutputCommandEvent { Text: var text } && text.Contains("npm ci", StringComparison.Ordinal) && !killed)
            {
                killed = true;
                await Install.KillAsync(daemon);
            }
            if (happened is StandardErrorCommandEvent { Text: var error })
                errors += error + "\n";
            else if (happened is ExitedCommandEvent exited)
                exitCode = exited.ExitCode;
        }
        Assert.True(killed);
        await ReadyAsync();
        var newest = JsonDocument.Parse(await Install.MustAsync("deployments", "shop", "--json")).RootElement[0];
        var state = newest.GetProperty("state").GetString();
        Assert.True(state is DeploymentStates.Live or DeploymentStates.Failed, $"it is {state}");
        Assert.True(exitCode == (state == DeploymentStates.Live ? 0 : 1), $"exit {exitCode}, {state}: {errors}");
        await load.EndAsync(atLeast: 20);
        // Nothing is left over: one container, and the next deploy works.
        await Install.EventuallyAsync(async () => (await Install.DockerAsync("ps", "-aq", "--filter", $"label=appoxy.uid={Shop.Uid}")).Output.Trim().Split('\n').Length == 1,
            TimeSpan.FromSeconds(60));
        await Install.MustAsync("deploy", "shop", "--git", Shop.Repository.Url, "--ref", "main");
    }

    [Fact]
    public async Task Snoozed_app_wakes_after_droidd_was_killed()
    {
        await Install.MustAsync("snooze", "shop");
        await Install.KillAsync("droidd");
        await ReadyAsync();
        Assert.Equal(DroidStates.Snoozed, (await Install.DroidAsync("shop")).State);
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
    }

    [Theory]
    [InlineData("global-nginx")]
    [InlineData("local-nginx")]
    public async Task Killed_nginx_comes_back_with_all_routes(string nginx)
    {
        await Install.KillAsync(nginx);
        await Install.EventuallyAsync(async () =>
        {
            try
            {
                return (await Install.GetAsync(Shop.Host)).Status == HttpStatusCode.OK;
            }
            catch (HttpRequestException)
            {
                return false;
            }
        }, TimeSpan.FromSeconds(10));
    }

    private async Task ReadyAsync()
    {
        using var api = Install.Api();
        await Install.EventuallyAsync(async () =>
        {
            try
            {
                using var ready = await api.GetAsync("readyz");
                return ready.IsSuccessStatusCode && (await Install.DroidAsync("shop")).Live is not null;
            }
            catch (Exception e) when (e is HttpRequestException or InvalidOperationException)
            {
                return false;
            }
        }, TimeSpan.FromSeconds(30));
    }

    /// <summary>What must be the same after a crash as before it.</summary>
    private async Task<string> StateAsync()
    {
        var droid = await Install.DroidAsync("shop");
        return $"{droid.State} {droid.Generation} {droid.Deployment} {droid.Live!.Container} {droid.Live.Address} "
            + await Install.MustAsync("domains", "list", "shop", "--json") + await Install.MustAsync("settings", "shop");
    }
}
