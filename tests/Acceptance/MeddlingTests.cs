using System.Diagnostics;
using System.Globalization;
using System.Net;

namespace Appoxy.Tests.Acceptance;

/// <summary>What somebody does by hand to the containers of an app, or to Docker itself, is put right. APPOXY_TEST_HANG is how many seconds Docker hangs.</summary>
[Collection(ThirdLane.Name)]
public sealed class MeddlingTests(Install install) : IAsyncLifetime
{
    private const string App = "meddled", Host = "meddled.localhost", Limits = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}";

    /// <summary>What is told by Docker is looked at after half a second; the whole is for a machine that has much to do.</summary>
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);

    private static Folder? folder;
    private DroidStatus before = null!;

    private string Container => before.Live!.Container;

    private string Ip => before.Live!.Address.Split(':')[0];

    public async Task InitializeAsync()
    {
        if (folder is null)
        {
            folder = new Folder(install, "folder", App);
            await install.MustAsync("apps", "create", App);
            await install.MustAsync("settings", App, "memory=96m", "cpus=0.8");
            await install.MustAsync("deploy", App, folder.Path);
        }
        await ServesAsync();
        before = await install.DroidAsync(App);
    }

    public Task DisposeAsync() => Task.CompletedTask;

    [Fact]
    public async Task Container_that_was_taken_off_its_network_or_put_on_another_is_back_at_its_address()
    {
        await MustDockerAsync("network", "disconnect", "droid-net", Container);
        await IsConnectedAsync();
        await ServesAsync();
        await MustDockerAsync("network", "disconnect", "-f", "droid-net", Container);
        await MustDockerAsync("network", "connect", "droid-net", Container);
        await MustDockerAsync("network", "connect", "droid-build", Container);
        await IsConnectedAsync();
        await ServesAsync();
        await ToldAsync("was taken off its network");
        await ToldAsync("was put on the network droid-build, and is taken off it");
        await install.MustAsync("snooze", App);
        await MustDockerAsync("network", "disconnect", "droid-net", Container);
        await IsConnectedAsync();
        Assert.Equal(DroidStates.Snoozed, (await install.DroidAsync(App)).State);
        await ServesAsync();
        Assert.Equal(Container, (await install.DroidAsync(App)).Live!.Container);
    }

    [Fact]
    public async Task What_was_done_while_droidd_was_away_is_put_right_when_it_is_back()
    {
        await install.ServiceAsync("droidd", "down");
        await MustDockerAsync("network", "disconnect", "droid-net", Container);
        await MustDockerAsync("rename", Container, "by-hand");
        await MustDockerAsync("update", "--memory", "64m", "--memory-swap", "64m", Container);
        var copy = await CopyAsync("copied-by-hand");
        await install.ServiceAsync("droidd", "up");
        await IsConnectedAsync();
        await EventuallyAsync(before.Uid, "{{slice .Name 1}}");
        await EventuallyAsync($"{96 << 20} {96 << 20} 800000000 256 unless-stopped", Limits);
        await ServesAsync();
        Assert.Equal(Container, (await install.DroidAsync(App)).Live!.Container);
        Assert.NotEqual(0, (await install.DockerAsync("inspect", copy)).ExitCode);
    }

    [Fact]
    public async Task Name_limits_and_restart_policy_are_given_back()
    {
        await MustDockerAsync("rename", Container, "other-name");
        await EventuallyAsync(before.Uid, "{{slice .Name 1}}");
        await MustDockerAsync("update", "--memory", "64m", "--memory-swap", "128m", "--cpus", "0.1", "--pids-limit", "-1", "--restart", "no", Container);
        await EventuallyAsync($"{96 << 20} {96 << 20} 800000000 256 unless-stopped", Limits);
        await ToldAsync("was renamed to other-name, and has its name back");
        await ToldAsync("had its memory changed from 96m to 64m, and has it back");
        await ToldAsync("had its restart policy changed to no, and has it back");
        Assert.Equal(Container, (await install.DroidAsync(App)).Live!.Container);
    }

    [Fact]
    public async Task Limit_that_Docker_can_not_take_back_costs_the_container_and_no_request()
    {
        await using var load = new Load(install, Host);
        await MustDockerAsync("update", "--cpuset-cpus", "0", Container);
        await EventuallyAsync(async () => await install.DroidAsync(App) is { State: DroidStates.Running, Live: { } live } && live.Container != Container);
        await load.EndAsync(atLeast: 20);
        before = await install.DroidAsync(App);
        Assert.Equal("", await MustDockerAsync("inspect", "-f", "{{.HostConfig.CpusetCpus}}", Container));
    }

    [Fact]
    public async Task What_runs_goes_on_after_it_was_paused_stopped_killed_or_removed_by_hand_and_what_sleeps_stays_asleep()
    {
        foreach (var verb in new[] { "pause", "stop", "kill", "rm" })
        {
            await MustDockerAsync(verb == "rm" ? ["rm", "-f", Container] : verb == "stop" ? ["stop", "-t", "1", Container] : [verb, Container]);
            // Nobody visits it.
            await EventuallyAsync(async () => await install.DroidAsync(App) is { State: DroidStates.Running, Live: { } live }
                && await StateAsync(live.Container) == "running" && (verb == "rm") == (live.Container != Container));
            before = await install.DroidAsync(App);
            await ServesAsync();
        }
        await ToldAsync("was removed from outside, and is made anew");
        await install.MustAsync("snooze", App);
        await MustDockerAsync("rm", "-f", Container);
        await EventuallyAsync(async () => (await install.DroidAsync(App)).Live?.Container is { } anew && anew != Container && await StateAsync(anew) == "created");
        Assert.Equal(DroidStates.Snoozed, (await install.DroidAsync(App)).State);
        await ServesAsync();
        before = await install.DroidAsync(App);
        Assert.Equal(Ip, before.Live!.Address.Split(':')[0]);
        await install.MustAsync("stop", App);
        await MustDockerAsync("start", Container);
        await EventuallyAsync(async () => await StateAsync(Container) == "exited");
        await ToldAsync("was started from outside, and is stopped again");
        await install.MustAsync("start", App);
    }

    [Fact]
    public async Task Copy_of_a_container_is_removed_and_one_of_another_Appoxy_is_left_alone()
    {
        var foreign = await CopyAsync("of-another", "appoxy.owner=/elsewhere/droids");
        var copy = await CopyAsync("copied-by-hand");
        await EventuallyAsync(async () => (await install.DockerAsync("inspect", copy)).ExitCode != 0);
        Assert.Equal("running", await StateAsync(foreign));
        Assert.Equal("running", await StateAsync(Container));
        await MustDockerAsync("rm", "-f", foreign);
        Assert.Contains("copied-by-hand has its labels and is none of its own",
            await File.ReadAllTextAsync($"{install.Prefix}/var/log/appoxy/droidd/current"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task App_that_is_off_its_network_is_destroyed_whole()
    {
        await install.MustAsync("apps", "create", "meddled-b");
        await install.MustAsync("deploy", "meddled-b", folder!.Path);
        var droid = await install.DroidAsync("meddled-b");
        await MustDockerAsync("network", "disconnect", "droid-net", droid.Live!.Container);
        await install.MustAsync("apps", "destroy", "meddled-b", "--confirm", "meddled-b");
        Assert.Equal("", await MustDockerAsync("ps", "-aq", "--filter", $"label=appoxy.uid={droid.Uid}"));
    }

    [Fact]
    public async Task Request_that_is_under_way_ends_in_its_time_over_two_new_versions()
    {
        using var site = install.Site(Host);
        var slow = site.GetStringAsync("slow/15000");
        await Task.Delay(300);
        await install.MustAsync("env", "set", App, "ROUND=1");
        await EventuallyAsync(async () => await install.DroidAsync(App) is { Live: { } live } && live.Container != Container);
        before = await install.DroidAsync(App);
        await install.MustAsync("env", "set", App, "ROUND=2");
        await EventuallyAsync(async () => await install.DroidAsync(App) is { Live: { } live } && live.Container != Container);
        Assert.False(slow.IsCompleted);
        Assert.Equal("slow", await slow);
    }

    [Fact]
    public async Task Docker_that_hangs_stops_no_running_app_and_commands_say_so_soon()
    {
        var hang = TimeSpan.FromSeconds(Environment.GetEnvironmentVariable("APPOXY_TEST_HANG") is { } text ? int.Parse(text, CultureInfo.InvariantCulture) : 1);
        await using var load = new Load(install, Host);
        var pid = install.ServicePid("docker");
        var since = Stopwatch.StartNew();
        await SignalAsync("STOP", pid);
        try
        {
            foreach (var command in new[] { "restart", "snooze", "stop" })
            {
                if (command == "stop")
                {
                    // From then on it is to answer nobody.
                    await Task.Delay(hang > since.Elapsed ? hang - since.Elapsed : TimeSpan.Zero);
                    await load.EndAsync(atLeast: 100);
                }
                var asked = Stopwatch.StartNew();
                var ran = await install.AppoxyAsync(command, App);
                Assert.Equal(1, ran.ExitCode);
                Assert.InRange(asked.Elapsed.TotalSeconds, 0, 15);
                Assert.Contains("does not answer", ran.Error, StringComparison.Ordinal);
            }
        }
        finally
        {
            await SignalAsync("CONT", pid);
        }
        await EventuallyAsync(async () => (await install.DroidAsync(App)).State == DroidStates.Stopped && await StateAsync(Container) == "exited");
        await install.MustAsync("start", App);
        await ServesAsync();
    }

    private async Task SignalAsync(string signal, int pid)
    {
        var ran = await install.RunAsync("kill", ["-" + signal, $"{pid}"]);
        Assert.True(ran.ExitCode == 0, ran.ToString());
    }

    /// <summary>A container with the labels of an app's, as one makes it who wants a second one quickly.</summary>
    private async Task<string> CopyAsync(string name, params string[] labels)
    {
        var lines = (await MustDockerAsync("inspect", "-f", "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}\n{{end}}", Container)).Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Where(l => l.StartsWith("appoxy.", StringComparison.Ordinal)).Where(l => labels.All(n => n.Split('=')[0] != l.Split('=')[0])).Concat(labels);
        return await MustDockerAsync(["run", "-d", "--name", name, "--network", "droid-net", .. lines.SelectMany(l => new[] { "--label", l }),
            "appoxy-test/node:18", "sleep", "600"]);
    }

    private async Task IsConnectedAsync()
    {
        await EventuallyAsync($"droid-net {Ip} ", "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{$v.IPAMConfig.IPv4Address}} {{end}}");
    }

    private Task EventuallyAsync(string wanted, string format) =>
        EventuallyAsync(async () => (await install.DockerAsync("inspect", "-f", format, Container)).Output.TrimEnd('\n') == wanted, $"{format} is {wanted}");

    private static Task EventuallyAsync(Func<Task<bool>> wanted, [System.Runtime.CompilerServices.CallerArgumentExpression(nameof(wanted))] string what = "") =>
        Install.EventuallyAsync(wanted, Soon, what);

    private Task ServesAsync() => EventuallyAsync(async () => await install.GetAsync(Host) is (HttpStatusCode.OK, "1\n" or "1", _));

    private Task ToldAsync(string what) => EventuallyAsync(async () =>
        (await install.MustAsync("logs", App)).Contains(what, StringComparison.Ordinal), what);

    /// <summary>Docker's word for it; empty where it is gone.</summary>
    private async Task<string> StateAsync(string container) => (await install.DockerAsync("inspect", "-f", "{{.State.Status}}", container)).Output.Trim();

    private async Task<string> MustDockerAsync(params string[] arguments)
    {
        var ran = await install.DockerAsync(arguments);
        Assert.True(ran.ExitCode == 0, $"docker {string.Join(' ', arguments)}: {ran}");
        return ran.Output.TrimEnd();
    }
}
