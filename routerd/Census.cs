using System.Diagnostics.Metrics;
using Appoxy.Daemon;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd;

/// <summary>
/// Counts now and then what Postgres holds, for <c>GET /metrics</c>; every routerd tells the same. What can't be counted, since Postgres is
/// away, is not told rather than told as it was.
/// </summary>
internal sealed class Census : Rounds
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(15);

    private readonly NpgsqlDataSource db;
    private volatile IReadOnlyList<(string What, string Label, double Value)> counted = [];

    public Census(NpgsqlDataSource db, IMeterFactory factory, ILogger<Census> log) : base(Interval, log)
    {
        this.db = db;
        var meter = factory.Create(Telemetry.Meters + "Census");
        Gauge("appoxy.postgres.up", null, null, "1 where this routerd can use Postgres.");
        Gauge("appoxy.apps", null, null, "Apps that there are.");
        Gauge("appoxy.deployments.unfinished", null, "state", "Deployments under way or in a queue, by their state.");
        Gauge("appoxy.moves", null, "state", "Apps that are to move to another droid-server, by how far they are.");
        Gauge("appoxy.removals.pending", null, "server", "Apps and volumes that were destroyed, and are still on a droid-server.");
        Gauge("appoxy.server.up", null, "server", "1 where a droid-server counts as up.");
        Gauge("appoxy.certificate.expiry", "s", "server", "When the certificate of a machine ends, as a Unix time.");
        Gauge("appoxy.route.changes.kept", null, null, "Entries of the change log, published ones too.");

        void Gauge(string name, string? unit, string? label, string description) => meter.CreateObservableGauge(name, () => counted.Where(c => c.What == name)
            .Select(c => label is null ? new Measurement<double>(c.Value) : new Measurement<double>(c.Value, new KeyValuePair<string, object?>(label, c.Label))),
            unit, description);
    }

    protected override async Task RoundAsync(CancellationToken cancel)
    {
        try
        {
            counted = await db.ListAsync<(string, string, double)>("""
                select 'appoxy.postgres.up', '', 1::float8
                union all select 'appoxy.apps', '', count(*) from apps
                union all select 'appoxy.deployments.unfinished', s.state, count(d.app_uid)
                  from (values ('queued'), ('fetching'), ('building'), ('releasing'), ('starting'), ('checking')) s (state)
                  left join deployments d on d.state = s.state and d.finished_at is null group by s.state
                union all select 'appoxy.moves', s.state, count(m.app_uid)
                  from (values ('waiting'), ('copying'), ('starting'), ('failed')) s (state) left join moves m on m.state = s.state group by s.state
                union all select 'appoxy.removals.pending', s.name, count(r.server)
                  from servers s left join (select server from removals union all select server from volume_removals) r on r.server = s.name group by s.name
                union all select 'appoxy.server.up', name, (down_since is null)::int from servers
                union all select 'appoxy.certificate.expiry', server, extract(epoch from max(not_after)) from server_certificates
                  where revoked_at is null group by server
                union all select 'appoxy.route.changes.kept', '', count(*) from route_changes
                """, null, cancel);
        }
        catch
        {
            counted = [("appoxy.postgres.up", "", 0)];
            throw;
        }
    }
}
