using System.Globalization;
using Xunit.Abstractions;

namespace Appoxy.Tests.Acceptance;

/// <summary>Apps on two droid-servers: placed, moved, drained away, and brought back to life when one is lost.</summary>
/// <remarks>APPOXY_TEST_MOVES says how often routerd and droidd are killed amid a move, APPOXY_TEST_DOWN_AFTER after how long a server is down.</remarks>
[Collection(ThirdLane.Name)]
public sealed class MoveTests(Install install, ITestOutputHelper output) : IAsyncLifetime
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(30);
    private readonly List<string> apps = [];
    private SecondServer second = null!;

    public async Task InitializeAsync() => second = await SecondServer.StartAsync(install);

    public async Task DisposeAsync()
    {
        foreach (var app in apps)
            await install.AppoxyAsync("apps", "destroy", app, "--confirm", app);
        await second.DisposeAsync();
    }

    [Fact]
    public async Task Apps_move_with_no_failed_request_keep_their_state_leave_a_server_that_drains_and_live_on_when_one_is_lost()
    {
        await PlacedAsync();
        await MovedAsync();
        await VolumesGoAlongAsync();
        await KilledAmidMovesAsync();
        await DrainedAsync();
        await LostAsync();
    }

    /// <summary>Apps go to labelled servers where they ask for it, else to the emptier one, and nowhere where none fits.</summary>
    private async Task PlacedAsync()
    {
        await install.MustAsync("servers", "label", "ds2", "zone=eu", "disk=ssd");
        for (var app = 1; app <= 3; app++)
        {
            // Both are about as free, so that it is the fewer apps of the same owner that count; those of other tests do too.
            var (first, other) = (await OwnersAppsAsync("ds1"), await OwnersAppsAsync("ds2"));
            var server = (await DeployAsync($"placed-{app}", "--constraint", "none")).Server;
            Assert.True(first == other || server == (first < other ? "ds1" : "ds2"), $"with {first} apps on ds1 and {other} on ds2 it went to {server}");
        }
        Assert.Equal("ds2", (await DeployAsync("placed-4", "--constraint", "zone=eu")).Server);
        var ran = await install.AppoxyAsync("apps", "create", "nowhere", "--constraint", "zone=us");
        Assert.Equal(1, ran.ExitCode);
        Assert.Contains("ds1, ds2 are not zone=us", ran.Error, StringComparison.Ordinal);
    }

    /// <summary>How many apps the admin has on a server.</summary>
    private async Task<int> OwnersAppsAsync(string server) => int.Parse(await install.SqlAsync(
        "select count(*) from placements p join apps a on a.uid = p.app_uid join users u on u.id = a.owner_id "
        + $"where p.server = '{server}' and u.email = 'admin@localhost'"), CultureInfo.InvariantCulture);

    private async Task MovedAsync()
    {
        var app = await install.AppAsync("placed-1");
        var image = (await install.DroidAsync(app.Name)).Live!.Image;
        var to = Other(app.Server);
        await using (var load = new Load(install, "placed-1.localhost", fresh: true))
        {
            await install.MustAsync("move", app.Name, "--server", to);
            await OnlyOnAsync(app, to);
            await install.MustAsync("move", app.Name);
            await OnlyOnAsync(app, app.Server);
            await load.EndAsync(atLeast: 200);
            output.WriteLine($"{load.Requests} requests over two moves, none failed");
        }
        Assert.Equal(image, (await install.DroidAsync(app.Name)).Live!.Image);

        // Asleep, and back there asleep.
        await install.MustAsync("snooze", app.Name);
        await install.MustAsync("move", app.Name, "--server", to);
        await OnlyOnAsync(app, to);
        var droid = await install.DroidAsync(app.Name);
        Assert.Equal((DroidStates.Snoozed, 0), (droid.State, droid.Live!.Starts));
        Assert.Equal("placed-1", (await install.GetAsync("placed-1.localhost")).Body.Trim());

        var ran = await install.AppoxyAsync("move", "placed-4", "--server", "ds1");
        Assert.Contains("ds1 is not zone=eu", ran.Error, StringComparison.Ordinal);
    }

    private async Task VolumesGoAlongAsync()
    {
        var app = await DeployAsync("kept");
        var before = (await install.DroidAsync(app.Name)).Live!.Container;
        await install.MustAsync("volumes", "create", app.Name, "data", "/www");
        await Install.EventuallyAsync(async () => (await install.DroidAsync(app.Name)).Live!.Container != before, Soon);
        await FillAsync(app.Name, "what is kept");
        await Install.EventuallyAsync(async () => (await install.GetAsync("kept.localhost")).Body.Trim() == "what is kept", Soon);
        var ran = await install.AppoxyAsync("move", app.Name);
        Assert.Equal(1, ran.ExitCode);
        Assert.Contains("has volumes", ran.Error, StringComparison.Ordinal);
        await install.MustAsync("move", app.Name, "--with-volumes");
        await OnlyOnAsync(app, Other(app.Server));
        Assert.Equal("what is kept", (await install.GetAsync("kept.localhost")).Body.Trim());
        Assert.Equal(DroidStates.Running, (await install.DroidAsync(app.Name)).State);
        await install.MustAsync("apps", "destroy", app.Name, "--confirm", app.Name);
        apps.Remove(app.Name);
    }

    private async Task FillAsync(string app, string text)
    {
        var folder = Directory.CreateDirectory(Path.Combine(install.Prefix, "fill")).FullName;
        await File.WriteAllTextAsync(Path.Combine(folder, "index.html"), text);
        await install.RunAsync("tar", ["-C", folder, "-czf", folder + ".tgz", "index.html"]);
        using var api = install.Api();
        await using var files = File.OpenRead(folder + ".tgz");
        (await api.PutAsync($"v1/apps/{app}/volumes/data/files", new StreamContent(files))).EnsureSuccessStatusCode();
    }

    /// <summary>Whatever is killed amid a move, it comes to an end with exactly one copy.</summary>
    private async Task KilledAmidMovesAsync()
    {
        var rounds = Setting("APPOXY_TEST_MOVES", 1);
        for (var round = 0; round < rounds; round++)
        {
            var app = await install.AppAsync("placed-2");
            await install.MustAsync("move", app.Name, "--detach");
            await Task.Delay(TimeSpan.FromMilliseconds(Random.Shared.Next(2500)));
            switch (round % 3)
            {
                case 0: await install.KillAsync("routerd"); break;
                case 1: await (app.Server == "ds2" ? install : second.Own).KillAsync("droidd"); break;
                default: await (app.Server == "ds2" ? second.Own : install).KillAsync("droidd"); break;
            }
            await OnlyOnAsync(app, Other(app.Server));
            Assert.Equal("placed-2", (await install.GetAsync("placed-2.localhost")).Body.Trim());
        }
        output.WriteLine($"{rounds} moves amid which routerd or a droidd was killed");
    }

    private async Task DrainedAsync()
    {
        await using (var load = new Load(install, "placed-3.localhost", fresh: true))
        {
            var ran = await install.AppoxyAsync("servers", "drain", "ds2", "--wait");
            Assert.Equal(1, ran.ExitCode);
            Assert.Contains("placed-4", ran.Output, StringComparison.Ordinal);
            Assert.Contains("ds1 is not zone=eu", ran.Output, StringComparison.Ordinal);
            await load.EndAsync(atLeast: 100);
        }
        var server = await install.ServerAsync("ds2");
        Assert.Equal(("draining", 1), (server.State, server.Apps));
        Assert.Equal("ds1", (await DeployAsync("undrained")).Server);
        await install.MustAsync("settings", "placed-4", "constraint=none");
        await Install.EventuallyAsync(async () => (await install.ServerAsync("ds2")).State == "drained", Soon);
        await install.MustAsync("servers", "undrain", "ds2");
        var dry = await install.MustAsync("servers", "rebalance", "--dry-run", "--json");
        Assert.StartsWith("[", dry, StringComparison.Ordinal);
    }

    private async Task LostAsync()
    {
        var settings = $"{install.Prefix}/etc/appoxy/routerd.json";
        var before = await File.ReadAllTextAsync(settings);
        var downAfter = Setting("APPOXY_TEST_DOWN_AFTER", 15);
        await File.WriteAllTextAsync(settings, before.Replace("\"servers\"", $"\"downAfter\": \"{downAfter}s\", \"servers\"", StringComparison.Ordinal));
        await install.RestartAsync("routerd");
        try
        {
            var names = new[] { "placed-1", "placed-2", "placed-3" };
            await Install.EventuallyAsync(async () => (await install.AppoxyAsync("servers", "list")).ExitCode == 0, Soon);
            foreach (var name in names)
                await install.MustAsync("move", name, "--server", "ds2");
            await install.MustAsync("settings", "placed-3", "move-when-down=off");
            var (first, third) = (await install.AppAsync("placed-1"), await install.AppAsync("placed-3"));
            await second.CutOffAsync();
            var cut = DateTimeOffset.UtcNow;
            foreach (var name in names[..2])
                await Install.EventuallyAsync(async () => (await install.GetAsync($"{name}.localhost")).Body.Trim() == name, TimeSpan.FromSeconds(60));
            output.WriteLine($"a server is cut off: what ran there answered elsewhere after {(DateTimeOffset.UtcNow - cut).TotalSeconds:0.0} s");
            Assert.Equal("down", (await install.ServerAsync("ds2")).State);
            Assert.Equal("ds2", (await install.AppAsync("placed-3")).Server);

            await second.BringBackAsync();
            await OnlyOnAsync(first, "ds1");
            await OnlyOnAsync(third, "ds2");
            foreach (var name in names)
                await Install.EventuallyAsync(async () => (await install.GetAsync($"{name}.localhost")).Body.Trim() == name, Soon);
        }
        finally
        {
            await File.WriteAllTextAsync(settings, before);
            await install.RestartAsync("routerd");
            await Install.EventuallyAsync(async () => (await install.AppoxyAsync("servers", "list")).ExitCode == 0, Soon);
        }
    }

    private static string Other(string server) => server == "ds1" ? "ds2" : "ds1";

    /// <summary>Waits until an app is on a server, and on no other any more.</summary>
    private async Task OnlyOnAsync(App app, string server)
    {
        await Install.EventuallyAsync(async () =>
        {
            try
            {
                var (one, two) = (await install.DroidsAsync(), await second.DroidsAsync());
                return (await install.AppAsync(app.Name)) is { Move: null } now && now.Server == server
                    && one.Contains(app.Uid) == (server == "ds1") && two.Contains(app.Uid) == (server == "ds2");
            }
            catch (HttpRequestException)
            {
                // routerd was killed.
                return false;
            }
        }, TimeSpan.FromSeconds(60), $"{app.Name} on {server} alone");
    }

    /// <summary>An app of 2 MB, which answers with its name.</summary>
    private async Task<App> DeployAsync(string name, params string[] how)
    {
        var folder = Directory.CreateDirectory(Path.Combine(install.Prefix, "tiny", name, "www")).Parent!.FullName;
        File.Copy(File.Exists("/bin/busybox") ? "/bin/busybox" : "/usr/bin/busybox", Path.Combine(folder, "busybox"), overwrite: true);
        await File.WriteAllTextAsync(Path.Combine(folder, "www/index.html"), name);
        await File.WriteAllTextAsync(Path.Combine(folder, "Dockerfile"), """
            FROM scratch
            COPY busybox /busybox
            COPY www /www
            USER 65534
            CMD ["/busybox", "httpd", "-f", "-p", "7000", "-h", "/www"]
            """);
        await install.MustAsync(["apps", "create", name, .. how]);
        apps.Add(name);
        await install.MustAsync("deploy", name, folder);
        return await install.AppAsync(name);
    }

    private static int Setting(string name, int otherwise) =>
        Environment.GetEnvironmentVariable(name) is { } text ? int.Parse(text, CultureInfo.InvariantCulture) : otherwise;
}
