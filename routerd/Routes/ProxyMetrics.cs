using System.Diagnostics.Metrics;
using System.Text.Json;
using System.Text.Json.Serialization;
using Appoxy.Daemon;
using Appoxy.Nginx;

namespace Appoxy.Routerd.Routes;

/// <summary>
/// What the global nginx of this machine does: the requests that it logs, which are all but those that an app answered well, and what its
/// Lua counts off the path that known hosts take, asked for at its control socket. Those answered well are counted, and apps told apart,
/// by their droid-servers, which have few apps; here there may be a million.
/// </summary>
internal sealed class ProxyMetrics : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(2);

    private readonly RouterdSettings settings;
    private readonly TimeProvider time;
    private readonly Counter<long> requests;
    private readonly Histogram<double> durations;
    private readonly Counter<long> bytes;
    private volatile ProxyCounts? counts;

    public ProxyMetrics(RouterdSettings settings, IMeterFactory factory, TimeProvider time)
    {
        (this.settings, this.time) = (settings, time);
        var meter = factory.Create(Telemetry.Meters + "Proxy");
        requests = meter.CreateCounter<long>("appoxy.proxy.requests", null,
            "Requests by the class of their status, and by who answered: app (not what it answered well), console, or nginx by itself.");
        durations = meter.CreateHistogram<double>("appoxy.proxy.request.duration", "s",
            "From a request's first byte to its answer's last; of a websocket, until it closed.", null, Telemetry.Visits);
        bytes = meter.CreateCounter<long>("appoxy.proxy.response.size", "By", "Bodies of answers.");
        meter.CreateObservableCounter("appoxy.proxy.lookups", () => Tell(counts?.Lookups, "source"), null,
            "Routes looked up beside the path that known hosts without options take: source is dict, redis, stale, none (404) or away (503).");
        meter.CreateObservableCounter("appoxy.proxy.redis.failures", () => One(counts?.RedisFailures), null, "Questions of the nginx that Redis did not answer.");
        meter.CreateObservableCounter("appoxy.proxy.route.flushes", () => One(counts?.Flushes), null, "How often the nginx had to take every route as outdated.");
        meter.CreateObservableGauge("appoxy.proxy.routes", () => One(counts?.Routes), null, "Routes in the nginx's memory.");
        meter.CreateObservableGauge("appoxy.proxy.routes.version", () => One(counts?.Version), null, "The version of the routes up to which the nginx has heard.");
        meter.CreateObservableGauge("appoxy.nginx.connections", () => Tell(counts?.Connections, "state"), null, "The nginx's connections by their state.");
        meter.CreateObservableGauge("appoxy.nginx.up", () => counts is null ? 0 : 1, null, "1 where the nginx answers.");
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        await Task.Yield();
        await Task.WhenAll(VisitLog.FollowAsync(settings.Nginx, "global", Count, time, stoppingToken), AskAsync(stoppingToken));
    }

    private void Count(in Visit visit)
    {
        KeyValuePair<string, object?> by = new("by", visit.Upstream.IsEmpty ? "nginx" : visit.Uid.IsEmpty ? "console" : "app");
        requests.Add(1, by, new("status", VisitLog.ClassOf(visit.Status)));
        durations.Record(visit.Seconds, by);
        bytes.Add(visit.Bytes, by);
    }

    private async Task AskAsync(CancellationToken cancel)
    {
        using var nginx = LocalHttp.For("unix:" + settings.Nginx.ControlSocket, Limit);
        while (true)
        {
            try
            {
                await using var answer = await nginx.GetStreamAsync("counts", cancel);
                counts = await JsonSerializer.DeserializeAsync(answer, ProxyJson.Default.ProxyCounts, cancel);
            }
            catch (Exception e) when (e is HttpRequestException or IOException or JsonException || (e is OperationCanceledException && !cancel.IsCancellationRequested))
            {
                counts = null;
            }
            await Task.Delay(Interval, time, cancel);
        }
    }

    private static IEnumerable<Measurement<long>> One(long? value) => value is { } known ? [new(known)] : [];

    private static IEnumerable<Measurement<long>> Tell(IReadOnlyDictionary<string, long>? values, string label) =>
        values?.Select(v => new Measurement<long>(v.Value, new KeyValuePair<string, object?>(label, v.Key))) ?? [];
}

/// <summary>The answer of the global nginx's <c>GET /counts</c>.</summary>
/// <param name="Lookups">Source → how many.</param>
/// <param name="RedisFailures">Questions without an answer.</param>
/// <param name="Flushes">How often all routes were taken as outdated.</param>
/// <param name="Routes">Routes in memory.</param>
/// <param name="Version">Up to which changes were heard.</param>
/// <param name="Connections">State → open connections; null where nginx was built without telling.</param>
internal sealed record ProxyCounts(
    IReadOnlyDictionary<string, long> Lookups, long RedisFailures, long Flushes, long Routes, long Version, IReadOnlyDictionary<string, long>? Connections = null);

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web)]
[JsonSerializable(typeof(ProxyCounts))]
internal sealed partial class ProxyJson : JsonSerializerContext;
