using System.Diagnostics.Metrics;
using Appoxy.Daemon;

namespace Appoxy.Routerd.Routes;

/// <summary>How the routes fare on their way to Redis, as <c>GET /metrics</c> tells. What only the leader knows, only it tells.</summary>
internal sealed class RouteMetrics
{
    private readonly Histogram<double> lag;
    private readonly Counter<long> repaired;
    private readonly Counter<long> rebuilt;
    private long published;
    private long newest;
    private long drift;

    public RouteMetrics(IMeterFactory factory)
    {
        var meter = factory.Create(Telemetry.Meters + "Routes");
        repaired = meter.CreateCounter<long>("appoxy.route.drift.repaired", null, "Routes published again since Redis had them wrong.");
        rebuilt = meter.CreateCounter<long>("appoxy.route.rebuilds", null, "How often the whole table in Redis was built anew.");
        lag = meter.CreateHistogram<double>("appoxy.route.publish.duration", "s", "From a change in Postgres until Redis had it and the nginxes were told.",
            null, Telemetry.Visits);
        // Counters that are there from the start can be compared with what they were.
        repaired.Add(0);
        rebuilt.Add(0);
        meter.CreateObservableGauge("appoxy.route.publisher.leads", () => Leads ? 1 : 0, null, "1 where this routerd publishes the routes.");
        meter.CreateObservableGauge("appoxy.routes.published.version", () => OfLeader(Published), null, "The version that Redis is at.");
        meter.CreateObservableGauge("appoxy.routes.behind", () => OfLeader(Math.Max(0, Newest - Published)), null,
            "Changes in Postgres that Redis does not have yet.");
        meter.CreateObservableGauge("appoxy.route.drift", () => OfLeader(Drift), null,
            "Routes in which Redis differed from Postgres when they were last compared.");
    }

    public bool Leads { get; set; }

    public long Published
    {
        get => Volatile.Read(ref published);
        set => Volatile.Write(ref published, value);
    }

    public long Newest
    {
        get => Volatile.Read(ref newest);
        set => Volatile.Write(ref newest, value);
    }

    public long Drift
    {
        get => Volatile.Read(ref drift);
        set => Volatile.Write(ref drift, value);
    }

    public void Repaired(int routes) => repaired.Add(routes);

    /// <summary>Changes are in Redis, each so many seconds after it was made.</summary>
    public void PublishedAfter(IEnumerable<double> seconds)
    {
        foreach (var one in seconds)
            lag.Record(Math.Max(0, one));
    }

    public void Rebuilt() => rebuilt.Add(1);

    private IEnumerable<Measurement<long>> OfLeader(long value) => Leads ? [new(value)] : [];
}
