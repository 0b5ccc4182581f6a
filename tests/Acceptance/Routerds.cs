using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;

namespace Appoxy.Tests;

/// <summary>
/// Two routerds of this test's own, <c>r8</c> and <c>r9</c>, on the Postgres and the Redis of an install whose own routerd is down
/// meanwhile; each is started again whenever it ended. They compare Redis with Postgres as often as told, so that a test knows
/// whether a route is right because it was published right, or since it was repaired.
/// </summary>
public sealed partial class Routerds(EchoServers servers, string compareRoutes = "1h") : IAsyncDisposable
{
    public static readonly string[] Names = ["r8", "r9"];

    private readonly string folder = Path.Combine("/tmp", "appoxy-routerds-" + Path.GetRandomFileName()[..6]);
    private readonly Dictionary<string, int> ports = Names.ToDictionary(n => n, _ => Install.FreePort());
    private readonly Dictionary<string, Process> running = [];
    private readonly CancellationTokenSource stop = new();
    private Task keptUp = Task.CompletedTask;

    public async Task StartAsync()
    {
        await servers.Install.ServiceAsync("routerd", "down");
        foreach (var name in Names)
            Start(name);
        keptUp = Task.Run(KeepUpAsync);
        await LeaderAsync(TimeSpan.FromSeconds(30));
        foreach (var name in Names)
        {
            using var api = Api(name);
            await Install.EventuallyAsync(() => AnswersAsync(api), TimeSpan.FromSeconds(30), $"{name} answers");
        }
    }

    /// <summary>The one whose session holds the publishers' lock.</summary>
    public async Task<string> LeaderAsync(TimeSpan limit, string? otherThan = null)
    {
        string? leader = null;
        await Install.EventuallyAsync(async () =>
        {
            leader = await servers.AskAsync<string>("""
                select coalesce(max(a.application_name), '') from pg_locks l join pg_stat_activity a using (pid)
                where l.locktype = 'advisory' and l.objid = 7042 and l.granted
                """);
            return leader.StartsWith("routerd ", StringComparison.Ordinal) && leader["routerd ".Length..] != otherThan;
        }, limit, "a routerd leads");
        return leader!["routerd ".Length..];
    }

    public Task SignalAsync(string name, string signal) => servers.Install.RunAsync("kill", ["-" + signal, $"{running[name].Id}"]);

    /// <summary>What <c>/metrics</c> says of one value; null where it says nothing.</summary>
    public async Task<double?> MetricAsync(string name, string metric)
    {
        using var api = Api(name);
        // A line is: name{labels} value time
        return (await api.GetStringAsync("metrics")).Split('\n').Select(l => Line().Match(l))
            .Where(m => m.Groups[1].Value == metric).Select(m => (double?)double.Parse(m.Groups[2].Value, CultureInfo.InvariantCulture)).FirstOrDefault();
    }

    public HttpClient Api(string name)
    {
        var http = LocalHttp.For($"http://127.0.0.1:{ports[name]}/", TimeSpan.FromSeconds(10));
        http.DefaultRequestHeaders.Authorization = new("Bearer", servers.Install.Token);
        return http;
    }

    private void Start(string name)
    {
        var prefix = servers.Install.Prefix;
        var start = new ProcessStartInfo("/bin/sh");
        foreach (var argument in new[] { "-c", "exec \"$0\" --config \"$1\" >>\"$2\" 2>&1 </dev/null", $"{prefix}/usr/lib/appoxy/routerd/routerd",
            $"{prefix}/etc/appoxy/routerd.json", $"{folder}/{name}.log" })
            start.ArgumentList.Add(argument);
        start.Environment["DOTNET_ROOT"] = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "../../.."));
        start.Environment["APPOXY__name"] = name;
        start.Environment["APPOXY__listen"] = $"http://127.0.0.1:{ports[name]}";
        start.Environment["APPOXY__compareRoutes"] = compareRoutes;
        foreach (var setting in new[] { "root", "templateOverrides", "logDir", "runDir" })
        {
            start.Environment["APPOXY__nginx__" + setting] = $"{folder}/{name}/{setting}";
            Directory.CreateDirectory($"{folder}/{name}/{setting}");
        }
        foreach (var setting in new[] { "pidFile", "controlSocket", "snapshot" })
            start.Environment["APPOXY__nginx__" + setting] = $"{folder}/{name}/{setting}";
        lock (running)
            running[name] = Process.Start(start)!;
    }

    private async Task KeepUpAsync()
    {
        while (!stop.IsCancellationRequested)
        {
            foreach (var name in Names.Where(n => running[n].HasExited))
                Start(name);
            await Task.Delay(100, stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private static async Task<bool> AnswersAsync(HttpClient api)
    {
        try
        {
            using var answer = await api.GetAsync("healthz");
            return answer.IsSuccessStatusCode;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await stop.CancelAsync();
        await keptUp;
        foreach (var process in running.Values)
        {
            process.Kill();
            await process.WaitForExitAsync();
            process.Dispose();
        }
        await servers.Install.ServiceAsync("routerd", "up");
        using var api = servers.Install.Api();
        await Install.EventuallyAsync(() => AnswersAsync(api), TimeSpan.FromSeconds(30));
        // Nobody shall be told for a day that these are away.
        await servers.Install.SqlAsync($"delete from proxies where name in ('{string.Join("', '", Names)}')");
        if (Environment.GetEnvironmentVariable("APPOXY_TEST_KEEP") is null)
            Directory.Delete(folder, recursive: true);
        stop.Dispose();
    }

    [GeneratedRegex(@"^(\w+)(?:\{.*\})? (\S+)")]
    private static partial Regex Line();
}
