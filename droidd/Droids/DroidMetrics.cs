using System.Diagnostics.Metrics;
using Appoxy.Daemon;
using Appoxy.Droidd.Builds;

namespace Appoxy.Droidd.Droids;

/// <summary>What happens to droids, for <c>GET /metrics</c>. Label values are apps and words of our own.</summary>
internal static class DroidMetrics
{
    private static readonly Meter meter = new(Telemetry.Meters + "Droids");

    private static readonly Histogram<double> wakes = meter.CreateHistogram<double>("appoxy.wake.duration", "s",
        "From the word to wake or start until ready: kind is thaw or start, outcome ready or failed.", null, Telemetry.Visits);
    private static readonly Counter<long> appWakes = meter.CreateCounter<long>("appoxy.app.wakes", null, "How often an app was woken or started.");
    private static readonly Histogram<double> hooks = meter.CreateHistogram<double>("appoxy.hook.duration", "s",
        "Requests that the local nginx asked droidd about, by what it was told.", null, Telemetry.Visits);
    private static readonly Counter<long> exits = meter.CreateCounter<long>("appoxy.app.exits", null,
        "Processes that ended by themselves: reason is exit or memory.");
    private static readonly Counter<long> repairs = meter.CreateCounter<long>("appoxy.droid.repairs", null,
        "What was changed on containers by hand, and undone.");

    public static void Woke(string? app, bool thawed, bool ready, TimeSpan took)
    {
        KeyValuePair<string, object?> kind = new("kind", thawed ? "thaw" : "start");
        wakes.Record(took.TotalSeconds, kind, new("outcome", ready ? "ready" : "failed"));
        appWakes.Add(1, new("app", app), kind);
    }

    public static void Hooked(string outcome, TimeSpan took) => hooks.Record(took.TotalSeconds, new KeyValuePair<string, object?>("outcome", outcome));

    public static void Exited(string? app, bool outOfMemory) => exits.Add(1, new("app", app), new("reason", outOfMemory ? "memory" : "exit"));

    /// <summary>Counters that are there from the start can be compared with what they were.</summary>
    public static void Begin() => repairs.Add(0);

    public static void Repaired() => repairs.Add(1);
}

/// <summary>What there is on a droid-server now.</summary>
internal sealed class DroidGauges
{
    public const string MeterName = Telemetry.Meters + "Server";

    private static readonly string[] States =
    [
        DroidStates.Running, DroidStates.Paused, DroidStates.Snoozed, DroidStates.Starting, DroidStates.Building, DroidStates.Crashed, DroidStates.Failed,
        DroidStates.Stopped,
    ];

    public DroidGauges(DroidServer server, BuildQueue builds, DockerPulse docker, DroiddSettings settings, IMeterFactory factory)
    {
        DroidMetrics.Begin();
        var meter = factory.Create(MeterName);
        meter.CreateObservableGauge("appoxy.droids", () =>
        {
            var counts = server.List().CountBy(d => d.State).ToDictionary();
            return States.Select(s => new Measurement<long>(counts.GetValueOrDefault(s), new KeyValuePair<string, object?>("state", s)));
        }, null, "Droids by their state.");
        meter.CreateObservableGauge("appoxy.requests.in_flight", () => server.LastActivity is { } seen ? [new Measurement<long>(seen.Peers.Values.Sum())]
            : Array.Empty<Measurement<long>>(), null, "Requests with droids now, websockets too.");
        meter.CreateObservableGauge("appoxy.nginx.up", () => server.LastActivity is null ? 0 : 1, null, "1 where the nginx answers.");
        meter.CreateObservableGauge("appoxy.nginx.connections", () => server.LastActivity?.Connections is { } open
            ? open.Select(c => new Measurement<long>(c.Value, new KeyValuePair<string, object?>("state", c.Key))) : [], null, "The nginx's connections by their state.");
        meter.CreateObservableGauge("appoxy.builds.queued", () => builds.Waiting, null, "Builds that wait for their turn.");
        meter.CreateObservableGauge("appoxy.builds.running", () => builds.Running, null, "Builds under way.");
        meter.CreateObservableGauge("appoxy.docker.up", () => docker.IsSilent ? 0 : 1, null, "0 while Docker does not answer.");
        meter.AddDisks(settings.DataDir, "/var/lib/docker", settings.Nginx.LogDir);
    }
}
