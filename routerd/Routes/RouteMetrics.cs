using System.Diagnostics.Metrics;

namespace Appoxy.Routerd.Routes;

/// <summary>How the routes fare on their way to Redis, as <c>GET /metrics</c> tells. What only the leader knows, only it tells.</summary>
internal sealed class RouteMetrics
{
    public const string Name = "Appoxy.Routes";

    private readonly Counter<long> repaired;
    private readonly Counter<long> rebuilt;
    private long published;
    private long newest;
    private long drift;

    public RouteMetrics(IMeterFactory factory)
    {
        var meter = factory.Create(Name);
        repaired = meter.CreateCounter<long>("appoxy_route_drift_repaired", null, "Routes published again since Redis had them wrong.");
        rebuilt = meter.CreateCounter<long>("appoxy_route_rebuilds", null, "How often the whole table in Redis was built anew.");
        // Counters that are there from the start can be compared with what they were.
        repaired.Add(0);
        rebuilt.Add(0);
        meter.CreateObservableGauge("appoxy_route_publisher_leads", () => Leads ? 1 : 0, null, "1 where this routerd publishes the routes.");
        meter.CreateObservableGauge("appoxy_routes_published_version", () => OfLeader(Published), null, "The version that Redis is at.");
        meter.CreateObservableGauge("appoxy_routes_behind", () => OfLeader(Math.Max(0, Newest - Published)), null,
            "Changes in Postgres that Redis does not have yet.");
        meter.CreateObservableGauge("appoxy_route_drift", () => OfLeader(Drift), null,
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

    public void Rebuilt() => rebuilt.Add(1);

    private IEnumerable<Measurement<long>> OfLeader(long value) => Leads ? [new(value)] : [];
}
