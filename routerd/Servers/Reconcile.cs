using System.Collections.Concurrent;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Servers;

/// <summary>Brings to each droid-server what it lacks of the apps that are live: whatever was changed while it could not be told.</summary>
internal sealed partial class Reconcile(NpgsqlDataSource db, DroidServers servers, ILogger<Reconcile> log)
    : Rounds(TimeSpan.FromSeconds(3), log)
{
    private static readonly ParallelOptions Width = new() { MaxDegreeOfParallelism = 4 };
    private readonly ConcurrentDictionary<string, string> faults = new();

    protected override async Task RoundAsync(CancellationToken cancel)
    {
        await servers.RefreshAsync(cancel);
        // Apps with an unfinished deployment are seen to by the deployment runner.
        var wanted = (await db.ListAsync<(string Server, string Uid, long Generation)>("""
            select p.server, a.uid, a.generation from apps a join placements p on p.app_uid = a.uid
            where exists (select 1 from deployments d where d.app_uid = a.uid and d.state = 'live')
              and not exists (select 1 from deployments d where d.app_uid = a.uid and d.finished_at is null)
            """, null, cancel)).ToLookup(w => w.Server, w => (w.Uid, w.Generation));
        await Parallel.ForEachAsync(servers.Known, Width, async (server, _) =>
            await ReconcileAsync(server.Name, [.. wanted[server.Name]], cancel));
    }

    private async Task ReconcileAsync(string server, List<(string Uid, long Generation)> wanted, CancellationToken cancel)
    {
        try
        {
            var held = (await servers[server].ListAsync(cancel)).ToDictionary(d => d.Uid, d => d.Generation);
            Told(server, null);
            // One that joined tells so itself.
            await db.RunAsync("update servers set last_seen = now() where name = @server and address like 'unix:%'", new { server }, cancel);
            await RemoveStraysAsync(server, held.Keys.Except(wanted.Select(w => w.Uid)).ToArray(), held, cancel);
            var lacking = wanted.Where(w => held.GetValueOrDefault(w.Uid, -1) < w.Generation).ToList();
            await Parallel.ForEachAsync(lacking, Width, async (app, _) =>
            {
                try
                {
                    await servers.PutAsync(app.Uid, cancel);
                    Told($"{server}: {app.Uid}", null);
                }
                catch (Problem e)
                {
                    Told($"{server}: {app.Uid}", e.Message);
                }
            });
        }
        catch (Problem e)
        {
            Told(server, e.Message);
        }
    }

    /// <summary>What a server still has of apps that are placed elsewhere, as one that was down when they left, is to be removed.</summary>
    private async Task RemoveStraysAsync(string server, string[] uids, Dictionary<string, long> held, CancellationToken cancel)
    {
        if (uids.Length == 0)
            return;
        await db.RunAsync("""
            insert into removals (app_uid, server, generation, route_version)
            select h.uid, @server, h.generation, (select version from route_version)
            from unnest(@uids, @generations) as h (uid, generation) join placements p on p.app_uid = h.uid
            where p.server <> @server
              and not exists (select 1 from moves m where m.app_uid = h.uid and m.target = @server and m.state <> 'failed')
            on conflict do nothing
            """, new { server, uids, generations = uids.Select(u => held[u]).ToArray() }, cancel);
    }

    /// <summary>Logs a fault when it begins, changes or ends, not each round.</summary>
    private void Told(string what, string? fault)
    {
        if (fault is null)
        {
            if (faults.TryRemove(what, out _))
                LogRight(log, what);
        }
        else if (faults.GetValueOrDefault(what) != fault)
        {
            faults[what] = fault;
            LogWrong(log, what, fault);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{What}: {Fault}")]
    private static partial void LogWrong(ILogger log, string what, string fault);

    [LoggerMessage(Level = LogLevel.Information, Message = "{What}: right again")]
    private static partial void LogRight(ILogger log, string what);
}
