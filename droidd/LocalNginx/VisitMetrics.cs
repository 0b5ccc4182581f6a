using System.Diagnostics.Metrics;
using System.Text;
using Appoxy.Daemon;
using Appoxy.Droidd.Droids;
using Appoxy.Nginx;

namespace Appoxy.Droidd.LocalNginx;

/// <summary>
/// Counts the requests of each app, as the local nginx logs them. They count from droidd's start on; those while it was away are in the
/// log alone.
/// </summary>
internal sealed class VisitMetrics : BackgroundService
{
    public const string MeterName = Telemetry.Meters + "Visits";

    /// <summary>A droid may be of another app after so long, by a name that was given anew.</summary>
    private static readonly TimeSpan NamesHold = TimeSpan.FromMinutes(1);

    private readonly DroidServer server;
    private readonly DroiddSettings settings;
    private readonly TimeProvider time;
    private readonly byte[] hook;
    private readonly Counter<long> requests;
    private readonly Histogram<double> durations;
    private readonly Counter<long> bytes;
    private readonly Counter<long> errors;
    private readonly Dictionary<ulong, KeyValuePair<string, object?>> apps = [];
    private long named;

    public VisitMetrics(DroidServer server, DroiddSettings settings, IMeterFactory factory, TimeProvider time)
    {
        (this.server, this.settings, this.time) = (server, settings, time);
        hook = Encoding.UTF8.GetBytes(settings.HookSocket);
        var meter = factory.Create(MeterName);
        requests = meter.CreateCounter<long>("appoxy.app.requests", null, "Requests by the class of their status; app is empty where the host named no droid.");
        durations = meter.CreateHistogram<double>("appoxy.app.request.duration", "s",
            "From a request's first byte to its answer's last, waking included; of a websocket, until it closed.", null, Telemetry.Visits);
        bytes = meter.CreateCounter<long>("appoxy.app.response.size", "By", "Bodies of answers.");
        errors = meter.CreateCounter<long>("appoxy.app.errors", null, "502, 503 and 504 that were no answer of the app's own.");
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        await Task.Yield();
        await VisitLog.FollowAsync(settings.Nginx, "local", Count, time, stoppingToken);
    }

    private void Count(in Visit visit)
    {
        var app = AppOf(visit.Uid);
        requests.Add(1, app, new("status", VisitLog.ClassOf(visit.Status)));
        durations.Record(visit.Seconds, app);
        bytes.Add(visit.Bytes, app);
        // Told from the start, so that the first one shows.
        errors.Add(visit.Status is 502 or 503 or 504 && IsOwn(visit) ? 1 : 0, app);
    }

    /// <summary>Whether an answer is Appoxy's page: the droid was not asked, or said something else, or the hook had the last word.</summary>
    private bool IsOwn(in Visit visit)
    {
        var said = visit.UpstreamStatus;
        return visit.Upstream.EndsWith(hook) || said.Length < 3 || !System.Buffers.Text.Utf8Parser.TryParse(said[^3..], out int last, out _)
            || last != visit.Status;
    }

    private KeyValuePair<string, object?> AppOf(ReadOnlySpan<byte> uid)
    {
        if (time.GetElapsedTime(named) > NamesHold)
        {
            apps.Clear();
            named = time.GetTimestamp();
        }
        var key = 0UL;
        foreach (var letter in uid.Length <= sizeof(ulong) ? uid : default)
            key = (key << 8) | letter;
        if (!apps.TryGetValue(key, out var app))
            apps[key] = app = new("app", key == 0 ? "" : server.Find(Encoding.ASCII.GetString(uid))?.Spec?.App ?? "");
        return app;
    }
}
