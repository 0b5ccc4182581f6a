using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Xunit.Abstractions;

namespace Appoxy.Tests;

/// <summary>Only where <c>APPOXY_TEST_CLUSTER</c> is set: six machines take some minutes to set up.</summary>
public sealed class WholeClusterFactAttribute : FactAttribute
{
    public WholeClusterFactAttribute()
    {
        if (Environment.GetEnvironmentVariable("APPOXY_TEST_CLUSTER") is null)
            Skip = "set APPOXY_TEST_CLUSTER=1";
    }
}

/// <summary>
/// One control machine, two proxies and three droid-servers, set up by provision.sh alone. <c>APPOXY_TEST_CLUSTER_APPS</c> is how many apps
/// (30), <c>APPOXY_TEST_CONTROL_GONE</c> for how many seconds the control machine is gone (20).
/// </summary>
public sealed class WholeClusterTests(ITestOutputHelper output)
{
    private static readonly int Apps = Setting("APPOXY_TEST_CLUSTER_APPS", 30);
    private static readonly int Gone = Setting("APPOXY_TEST_CONTROL_GONE", 20);
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(60);

    private readonly List<Machine> proxies = [];
    private readonly Dictionary<string, Machine> servers = [];

    // Runs commands; it is never set up.
    private readonly Install here = new();
    private Cluster cluster = null!;
    private Machine control = null!;

    [WholeClusterFact]
    public async Task Apps_are_spread_drained_brought_elsewhere_and_served_with_the_control_machine_killed()
    {
        await using var open = cluster = await Cluster.OpenAsync(here);
        control = await cluster.MachineAsync();
        await MustAsync(control.ProvisionAsync("--role", "control", "--address", control.Address));
        foreach (var role in new[] { "proxy", "proxy", "droid-server", "droid-server" })
            await JoinAsync(role);
        await SpreadAsync();
        await DrainAsync();
        await CutOffAsync();
        await WithoutControlAsync();
    }

    private async Task JoinAsync(string role)
    {
        var machine = await cluster.MachineAsync();
        var made = await AppoxyAsync("servers", "join-token", "--role", role, "--json");
        var token = JsonSerializer.Deserialize(made, AppoxyJson.Default.IssuedJoinToken)!;
        var ran = await MustAsync(machine.ProvisionAsync("--role", role, "--join", token.Token, "--address", machine.Address));
        Assert.Contains($"{token.Name} has joined", ran, StringComparison.Ordinal);
        if (role == "proxy")
            proxies.Add(machine);
        else
            servers[token.Name] = machine;
    }

    /// <summary>Two thirds of the apps go to two servers; then a third joins, and the rest goes there.</summary>
    private async Task SpreadAsync()
    {
        var source = MakeSource();
        for (var n = 0; n < Apps; n++)
        {
            if (n == Apps * 2 / 3)
            {
                var before = await PlacementsAsync();
                output.WriteLine("on two servers: " + Words(before));
                Assert.InRange(before.Values.Max() - before.Values.Min(), 0, 1);
                await JoinAsync("droid-server");
            }
            await AppoxyAsync("apps", "create", $"app{n}");
            await AppoxyAsync("deploy", $"app{n}", source);
        }
        var after = await PlacementsAsync();
        output.WriteLine("with a third that joined: " + Words(after));
        Assert.Equal(3, after.Count);
        Assert.InRange(after.Values.Max() - after.Values.Min(), 0, 1);
        await EachAnswersAsync();
        await OneCopyEachAsync();
    }

    private async Task DrainAsync()
    {
        var name = servers.Keys.First();
        var moving = (await PlacementsAsync())[name];
        await using (var load = Visitors())
        {
            await Task.Delay(TimeSpan.FromSeconds(3));
            output.WriteLine(await AppoxyAsync("servers", "drain", name, "--wait"));
            await Task.Delay(TimeSpan.FromSeconds(5));
            await load.EndAsync(atLeast: 500);
            output.WriteLine($"{moving} apps left {name}: {load.Requests} requests by both proxies, none failed");
        }
        Assert.False((await PlacementsAsync()).ContainsKey(name));
        await OneCopyEachAsync();
        await AppoxyAsync("servers", "undrain", name);
        output.WriteLine(await AppoxyAsync("servers", "rebalance"));
        await Install.EventuallyAsync(async () => (await AppsAsync()).All(a => a.Move is null), TimeSpan.FromMinutes(3), "all moves are done");
        output.WriteLine("after a rebalance: " + Words(await PlacementsAsync()));
        await OneCopyEachAsync();
    }

    /// <summary>The link of a server with apps goes down: those that may move answer elsewhere; it comes back, and nothing is there twice.</summary>
    private async Task CutOffAsync()
    {
        var (name, count) = (await PlacementsAsync()).MaxBy(p => p.Value);
        var lost = (await AppsAsync()).Where(a => a.Server == name).ToList();
        var stays = lost[0];
        await AppoxyAsync("settings", stays.Name, "move-when-down=off");
        await AppoxyAsync("env", "set", lost[1].Name, "KEPT=yes");
        await Install.EventuallyAsync(async () => (await AppAsync(lost[1].Name)).Deployment?.State == "live", Soon);
        await EachAnswersAsync();
        await cluster.LinkAsync(servers[name], up: false);
        var cut = DateTimeOffset.UtcNow;
        foreach (var app in lost[1..])
            foreach (var proxy in proxies)
                await Install.EventuallyAsync(async () => await StatusAsync(proxy, app.Name) == "200",
                    TimeSpan.FromSeconds(120), $"{app.Name} through {proxy.Namespace}");
        var elsewhere = DateTimeOffset.UtcNow - cut;
        output.WriteLine($"{name} is cut off: all {lost.Count - 1} apps that may move answer elsewhere after {elsewhere.TotalSeconds:0.0} s");
        Assert.InRange(elsewhere.TotalSeconds, 0, 60);
        Assert.All((await AppsAsync()).Where(a => lost[1..].Any(l => l.Name == a.Name)), a => Assert.NotEqual(name, a.Server));
        Assert.Equal(name, (await AppAsync(stays.Name)).Server);

        await cluster.LinkAsync(servers[name], up: true);
        await OneCopyEachAsync();
        Assert.Equal(name, (await AppAsync(stays.Name)).Server);
        Assert.Contains("yes", await AppoxyAsync("env", "list", lost[1].Name), StringComparison.Ordinal);
        await EachAnswersAsync();
    }

    private async Task WithoutControlAsync()
    {
        foreach (var app in await AppsAsync())
            await AppoxyAsync("settings", app.Name, "pause-after=0", "snooze-after=5s");
        await control.KillAsync();
        var until = DateTimeOffset.UtcNow.AddSeconds(Gone);
        var rounds = 0;
        do
        {
            foreach (var machine in servers.Values)
                await Install.EventuallyAsync(async () => (await here.RunAsync("docker",
                    ["-H", machine.Docker, "ps", "-q", "--filter", "label=appoxy.uid"])).Output.Trim().Length == 0, Soon, "all sleep");
            await EachAnswersAsync();
            rounds++;
        }
        while (DateTimeOffset.UtcNow < until);
        output.WriteLine($"all of the control machine killed for {Gone} s: {rounds} times all {Apps} apps fell asleep and woke, by both proxies");

        await MustAsync(control.ProvisionAsync("--role", "control"));
        await Install.EventuallyAsync(async () => Items(await AppoxyAsync("servers", "list", "--json"), AppoxyJson.Default.Server)
            .Count(s => s.State == "up") == 3, Soon, "all servers are up");
        await OneCopyEachAsync();
    }

    private async Task<List<App>> AppsAsync() =>
        Items(await AppoxyAsync("apps", "list", "--json"), AppoxyJson.Default.App);

    private static List<T> Items<T>(string json, JsonTypeInfo<T> type)
    {
        using var list = JsonDocument.Parse(json);
        return [.. list.RootElement.EnumerateArray().Select(e => e.Deserialize(type)!)];
    }

    private async Task<App> AppAsync(string name) => (await AppsAsync()).Single(a => a.Name == name);

    private async Task<SortedDictionary<string, int>> PlacementsAsync() => new((await AppsAsync()).GroupBy(a => a.Server).ToDictionary(g => g.Key, g => g.Count()));

    private static string Words(IDictionary<string, int> placements) => string.Join(", ", placements.Select(p => $"{p.Key} {p.Value}"));

    /// <summary>Waits until each app has one container, on the server that it is placed on.</summary>
    private async Task OneCopyEachAsync()
    {
        string wrong = "";
        await Install.EventuallyAsync(async () =>
        {
            var found = new List<string>();
            foreach (var (name, machine) in servers)
            {
                var ran = await here.RunAsync("docker", ["-H", machine.Docker, "ps", "-a", "--filter", "label=appoxy.uid", "--format", "{{.Names}}"]);
                found.AddRange(ran.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(uid => $"{uid} on {name}"));
            }
            var wanted = (await AppsAsync()).Select(a => $"{a.Uid} on {a.Server}").ToList();
            wrong = string.Join(", ", found.Except(wanted).Concat(wanted.Except(found).Select(w => "no " + w)));
            return wrong.Length == 0 && found.Count == wanted.Count;
        }, TimeSpan.FromSeconds(90), "one copy of each app");
    }

    private async Task EachAnswersAsync()
    {
        foreach (var proxy in proxies)
            for (var n = 0; n < Apps; n++)
            {
                var app = $"app{n}";
                await Install.EventuallyAsync(async () => await StatusAsync(proxy, app) == "200", TimeSpan.FromSeconds(20), $"{app} through {proxy.Namespace}");
            }
    }

    private static async Task<string> StatusAsync(Machine proxy, string app) => (await proxy.RunAsync("curl", "-sS", "--noproxy", "*", "-m", "10",
        "-o", "/dev/null", "-w", "%{http_code}", "-H", $"Host: {app}.localhost", "http://127.0.0.1/")).Output;

    /// <summary>About 200 requests a second, to every app by every proxy.</summary>
    private Load Visitors() => new([.. proxies.SelectMany(proxy => Enumerable.Range(0, Apps).Select(n =>
    {
        var http = new HttpClient(new SocketsHttpHandler { UseProxy = false }) { BaseAddress = new Uri($"http://{proxy.Address}/"), Timeout = TimeSpan.FromSeconds(30) };
        http.DefaultRequestHeaders.Host = $"app{n}.localhost";
        return http;
    }))], TimeSpan.FromMilliseconds(5 * 2 * Apps), fresh: true);

    /// <summary>The sample, which needs no base image.</summary>
    private string MakeSource()
    {
        var folder = Directory.CreateDirectory(Path.Combine(control.Prefix, "app")).FullName;
        foreach (var file in Directory.EnumerateFiles(Path.Combine(here.Repository, "droidd/sample/hello")))
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)), overwrite: true);
        var busybox = new[] { "/var/cache/appoxy/busybox/bin/busybox", "/bin/busybox" }.First(File.Exists);
        File.Copy(busybox, Path.Combine(folder, "busybox"), overwrite: true);
        return folder;
    }

    private Task<string> AppoxyAsync(params string[] arguments) =>
        // Not the address and token of the install that is not there.
        MustAsync(control.RunAsync(["env", "-u", "APPOXY_URL", "-u", "APPOXY_TOKEN", $"{control.Prefix}/bin/appoxy", .. arguments]));

    private static async Task<string> MustAsync(Task<Ran> running)
    {
        var ran = await running;
        Assert.True(ran.ExitCode == 0, ran.ToString());
        return ran.Output;
    }

    private static int Setting(string name, int otherwise) =>
        Environment.GetEnvironmentVariable(name) is { } text ? int.Parse(text, CultureInfo.InvariantCulture) : otherwise;
}
