using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text.Json;
using CliWrap;
using CliWrap.EventStream;

namespace Appoxy.Tests.Acceptance;

/// <summary>
/// An app of several processes (tests/apps/team). APPOXY_TEST_ROUNDS raises how often replicas and droidd are killed and the app is scaled.
/// </summary>
[Collection(SecondLane.Name)]
public sealed class ProcessTests(Install install) : IAsyncLifetime
{
    private const string Host = "team.localhost";
    private static readonly int Rounds =
        int.TryParse(Environment.GetEnvironmentVariable("APPOXY_TEST_ROUNDS"), CultureInfo.InvariantCulture, out var rounds) ? rounds : 1;

    private static Folder? folder;
    private static int version = 1;
    private string uid = "";

    public async Task InitializeAsync()
    {
        if (folder is null)
        {
            folder = new Folder(install, "team", "team");
            await install.MustAsync("apps", "create", "team");
            await install.MustAsync("scale", "team", "web=2", "worker=1");
            var log = await install.MustAsync("deploy", "team", folder.Path);
            Assert.Contains("Process types: web, broken, hungry, release, worker", log, StringComparison.Ordinal);
            Assert.Contains("Starting web=2, worker=1", log, StringComparison.Ordinal);
        }
        uid = (await install.DroidAsync("team")).Uid;
        await install.MustAsync("scale", "team", "web=2", "worker=1", "hungry=0", "broken=0");
    }

    public Task DisposeAsync() => Task.CompletedTask;

    [Fact]
    public async Task Web_processes_answer_in_turn_and_a_worker_runs_beside_them()
    {
        await install.MustAsync("wake", "team");
        await AllAnswerAsync(2);
        var answers = await AnswersAsync(20);
        Assert.True(answers["web.1"] >= 8 && answers["web.2"] >= 8, $"web.1 answered {answers["web.1"]} of 20");
        var table = await install.MustAsync("ps", "team");
        foreach (var process in new[] { "web.1 ", "web.2 ", "worker.1 " })
            Assert.Contains("\n" + process, table, StringComparison.Ordinal);
        Assert.Contains("node worker.js", table, StringComparison.Ordinal);
        Assert.Contains("worker.1 works, its port is undefined", await install.MustAsync("logs", "team"), StringComparison.Ordinal);

        var scale = JsonDocument.Parse(await install.MustAsync("scale", "team", "--json")).RootElement.EnumerateArray()
            .ToDictionary(s => s.GetProperty("type").GetString()!, s => (s.GetProperty("count").GetInt32(), s.GetProperty("running").GetInt32()));
        Assert.Equal(new() { ["web"] = (2, 2), ["broken"] = (0, 0), ["hungry"] = (0, 0), ["worker"] = (1, 1) }, scale);
        foreach (var (pair, code, words) in new[]
        {
            ("web=0", 2, "from 1 to 20"), ("worker=21", 2, "from 0 to 20"), ("worker=x", 2, "give a number"), ("release=1", 2, "release"),
            ("clock=1", 2, "no process type 'clock'"), ("broken=1", 1, "broken.1 exited with code 3"),
        })
        {
            var refused = await install.AppoxyAsync("scale", "team", pair);
            Assert.Equal(code, refused.ExitCode);
            Assert.Contains(words, refused.Error, StringComparison.Ordinal);
        }
        Assert.Contains("broken.1 printed: I am broken", await install.MustAsync("logs", "team"), StringComparison.Ordinal);
        Assert.Contains("failed", await install.MustAsync("ps", "team"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Killed_replica_costs_no_request_and_comes_back()
    {
        await AllAnswerAsync(2);
        await using var load = new Load(install, Host);
        for (var round = 0; round < Rounds; round++)
        {
            var killed = (await install.DroidAsync("team")).Processes[round % 2];
            // All that the app's user may: not Docker's init, which then ends, too.
            await install.DockerAsync("exec", killed.Container!, "sh", "-c", "kill -9 -1");
            await Install.EventuallyAsync(async () => (await install.DroidAsync("team")).Processes.Single(p => p.Name == killed.Name)
                is { State: DroidStates.Running, Error: "exited with code 137" } now && now.Restarts > killed.Restarts, TimeSpan.FromSeconds(15));
            await AllAnswerAsync(2);
        }
        await load.EndAsync(atLeast: 50);
        Assert.Contains("exited with code 137; it is started again", await install.MustAsync("logs", "team"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Failing_release_command_leaves_the_old_version_serving_and_a_good_one_runs_once()
    {
        var before = version;
        await install.MustAsync("wake", "team");
        folder!.Write("version.txt", $"{++version}\n").Write("release.code", "7\n");
        var failed = await install.AppoxyAsync("deploy", "team", folder.Path);
        folder.Write("release.code", "0\n");
        Assert.Equal(1, failed.ExitCode);
        Assert.Contains("the release command exited with code 7", failed.Error, StringComparison.Ordinal);
        Assert.Contains($"release {version} begins for release.1", failed.Output, StringComparison.Ordinal);
        Assert.Equal("release", JsonDocument.Parse(await install.MustAsync("deployments", "team", "--json")).RootElement[0].GetProperty("reason").GetString());
        Assert.EndsWith($" {before}", (await install.GetAsync(Host)).Body, StringComparison.Ordinal);

        await using var load = new Load(install, Host);
        var log = await install.MustAsync("deploy", "team", folder.Path);
        Assert.Equal(2, log.Split($"release {version} begins").Length);
        Assert.EndsWith($" {version}", (await install.GetAsync(Host)).Body, StringComparison.Ordinal);
        // Back and forth: an earlier version's release command is not run for a version that was live before.
        Assert.DoesNotContain("release command", await install.MustAsync("rollback", "team"), StringComparison.Ordinal);
        Assert.EndsWith($" {before}", (await install.GetAsync(Host)).Body, StringComparison.Ordinal);
        await install.MustAsync("rollback", "team");
        await AllAnswerAsync(2);
        await load.EndAsync(atLeast: 50);
        await LeftAsync(web: 2, worker: 1);
    }

    [Fact]
    public async Task Scaling_up_and_down_under_load_costs_no_request()
    {
        await AllAnswerAsync(2);
        await using var load = new Load(install, Host);
        for (var round = 0; round < Rounds; round++)
        {
            await install.MustAsync("scale", "team", "web=3");
            await AllAnswerAsync(3);
            await install.MustAsync("scale", "team", "web=1", "worker=0");
            await AllAnswerAsync(1);
        }
        await load.EndAsync(atLeast: 50);
        await LeftAsync(web: 1, worker: 0);
        await install.MustAsync("scale", "team", "web=2", "worker=1");
        await LeftAsync(web: 2, worker: 1);
    }

    [Fact]
    public async Task Web_processes_sleep_and_wake_together_and_workers_with_them_where_asked_to()
    {
        await AllAnswerAsync(2);
        await install.MustAsync("snooze", "team");
        Assert.Equal("web.1 exited, web.2 exited, worker.1 running", await DockerStatesAsync());
        using (var http = install.Site(Host))
        {
            var answers = await Task.WhenAll(Enumerable.Range(0, 100).Select(_ => http.GetStringAsync("")));
            Assert.All(answers, a => Assert.StartsWith("web.", a, StringComparison.Ordinal));
        }
        Assert.Equal("web.1 running, web.2 running, worker.1 running", await DockerStatesAsync());
        await AllAnswerAsync(2);

        await install.MustAsync("settings", "team", "snooze-workers=on");
        await Install.EventuallyAsync(async () =>
        {
            await install.MustAsync("snooze", "team");
            return await DockerStatesAsync() == "web.1 exited, web.2 exited, worker.1 exited";
        }, TimeSpan.FromSeconds(20));
        // One more is made while all sleep, and wakes with them.
        await install.MustAsync("scale", "team", "web=3");
        Assert.DoesNotContain("running", await DockerStatesAsync(), StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.OK, (await install.GetAsync(Host)).Status);
        await AllAnswerAsync(3);
        Assert.DoesNotContain("exited", await DockerStatesAsync(), StringComparison.Ordinal);
        await install.MustAsync("settings", "team", "snooze-workers=off");
        await install.MustAsync("stop", "team");
        await Install.EventuallyAsync(async () => !(await DockerStatesAsync()).Contains("running", StringComparison.Ordinal), TimeSpan.FromSeconds(20));
        await install.MustAsync("start", "team");
        await AllAnswerAsync(3);
    }

    [Fact]
    public async Task Process_that_runs_out_of_memory_is_shown_with_its_reason()
    {
        await install.MustAsync("wake", "team");
        await install.MustAsync("scale", "team", "hungry=1");
        await Install.EventuallyAsync(async () => (await install.DroidAsync("team")).Processes.Single(p => p.Name == "hungry.1")
            is { Error: "ran out of memory", Restarts: > 0 }, TimeSpan.FromSeconds(30));
        Assert.Contains("ran out of memory", await install.MustAsync("ps", "team"), StringComparison.Ordinal);
        Assert.Contains("hungry.1 ran out of memory; it is started again", await install.MustAsync("logs", "team"), StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.OK, (await install.GetAsync(Host)).Status);
        await install.MustAsync("scale", "team", "hungry=0");
    }

    [Fact]
    public async Task Killed_droidd_begins_the_release_command_again_and_leaves_no_container_behind()
    {
        await install.MustAsync("wake", "team");
        for (var round = 0; round < Rounds; round++)
        {
            folder!.Write("version.txt", $"{++version}\n").Write("release.sleep", "2\n");
            var (killed, exitCode, output) = (false, -1, "");
            await foreach (var happened in install.Command(Path.Combine(install.Prefix, "bin/appoxy"), "deploy", "team", folder.Path)
                .WithValidation(CommandResultValidation.None).ListenAsync())
            {
                if (happened is StandardOutputCommandEvent { Text: var text })
                {
                    output += text + "\n";
                    if (!killed && text.Contains("begins for release.1", StringComparison.Ordinal))
                        await KillAsync(TimeSpan.FromMilliseconds(Random.Shared.Next(1000)));
                    killed |= text.Contains("begins for release.1", StringComparison.Ordinal);
                }
                else if (happened is ExitedCommandEvent exited)
                {
                    exitCode = exited.ExitCode;
                }
            }
            folder.Write("release.sleep", "0\n");
            Assert.True(killed && exitCode == 0, output);
            Assert.Equal(3, output.Split($"release {version} begins").Length);
            Assert.EndsWith($" {version}", (await install.GetAsync(Host)).Body, StringComparison.Ordinal);
            await LeftAsync(web: 2, worker: 1);
        }
    }

    [Fact]
    public async Task Killed_droidd_brings_the_app_to_its_scale_and_leaves_no_container_behind()
    {
        await AllAnswerAsync(2);
        await using var load = new Load(install, Host);
        for (var round = 0; round < Rounds; round++)
        {
            foreach (var count in new[] { 4, 2 })
            {
                var scaling = install.AppoxyAsync("scale", "team", $"web={count}");
                await KillAsync(TimeSpan.FromMilliseconds(300 + Random.Shared.Next(900)));
                await scaling;
                await Install.EventuallyAsync(async () => await CountAsync() == count + 1, TimeSpan.FromSeconds(40));
                await AllAnswerAsync(count);
            }
        }
        await load.EndAsync(atLeast: 50);
    }

    private async Task<Dictionary<string, int>> AnswersAsync(int count)
    {
        var answers = new Dictionary<string, int>();
        for (var i = 0; i < count; i++)
        {
            var (status, body, _) = await install.GetAsync(Host);
            Assert.Equal(HttpStatusCode.OK, status);
            var who = body.Split(' ')[0];
            answers[who] = answers.GetValueOrDefault(who) + 1;
        }
        return answers;
    }

    /// <summary>Waits until so many web processes take their turns.</summary>
    private Task AllAnswerAsync(int count) =>
        Install.EventuallyAsync(async () => (await AnswersAsync(4 * count)).Count == count, TimeSpan.FromSeconds(30));

    private async Task<string> DockerStatesAsync() => string.Join(", ", (await install.DockerAsync("ps", "-a", "--filter", $"label=appoxy.uid={uid}",
        "--format", "{{.Label \"appoxy.process\"}} {{.State}}")).Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Order());

    private async Task<int> CountAsync() =>
        (await install.DockerAsync("ps", "-aq", "--filter", $"label=appoxy.uid={uid}")).Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length;

    /// <summary>Waits until those containers are left that are wanted, and no other.</summary>
    private Task LeftAsync(int web, int worker) => Install.EventuallyAsync(async () => await DockerStatesAsync()
        == string.Join(", ", Enumerable.Range(1, web).Select(n => $"web.{n} running").Concat(Enumerable.Range(1, worker).Select(n => $"worker.{n} running"))),
        TimeSpan.FromSeconds(45));

    private async Task KillAsync(TimeSpan after)
    {
        await Task.Delay(after);
        var pid = install.ServicePid("droidd");
        using (var process = Process.GetProcessById(pid))
            process.Kill();
        using var api = install.Api();
        await Install.EventuallyAsync(async () =>
        {
            try
            {
                return install.ServicePid("droidd") != pid && (await install.DroidAsync("team")).Live is not null;
            }
            catch (Exception e) when (e is FormatException or IOException or HttpRequestException or InvalidOperationException)
            {
                return false;
            }
        }, TimeSpan.FromSeconds(30));
    }
}
