using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Placements;

/// <summary>An app that may be moved, and where it is.</summary>
internal sealed record PlacedApp(string Uid, string Name, string Server, AppNeeds Needs);

/// <summary>Evens out how much of their memory the droid-servers have promised, by a few moves at a time.</summary>
internal static class Rebalance
{
    /// <summary>The most moves of one plan.</summary>
    public const int Most = 5;

    /// <summary>The moves that bring the fullest servers closer to the others; none where they are alike.</summary>
    public static List<PlannedMove> Plan(List<ServerLoad> servers, IEnumerable<PlacedApp> movable, double overcommit)
    {
        var apps = movable.OrderByDescending(a => a.Needs.MemoryBytes).ThenBy(a => a.Name, StringComparer.Ordinal)
            .GroupBy(a => a.Server).ToDictionary(g => g.Key, g => g.ToList());
        var usable = servers.Where(s => s is { Up: true, Draining: false, MemoryBytes: > 0 }).ToList();
        var (plan, tried) = (new List<PlannedMove>(), new HashSet<string>());
        while (plan.Count < Most && usable.Where(s => !tried.Contains(s.Name)).MinBy(s => Placement.FreeShare(s, 0, overcommit)) is { } fullest)
        {
            var others = usable.Where(s => s != fullest).ToList();
            var move = apps.GetValueOrDefault(fullest.Name, []).Select(app => (App: app, To: Placement.Choose(app.Needs, others, overcommit)))
                // Not past it: the one that gets the app is to stay emptier than the other was.
                .FirstOrDefault(m => m.To is not null && Placement.FreeShare(m.To, m.App.Needs.MemoryBytes, overcommit)
                    > Placement.FreeShare(fullest, 0, overcommit) + (Placement.Alike / 2));
            if (move.To is null)
            {
                tried.Add(fullest.Name);
                continue;
            }
            var (app, to) = move;
            fullest.Remove(app.Needs.Owner, app.Needs.MemoryBytes);
            to.Add(app.Needs.Owner, app.Needs.MemoryBytes);
            apps[fullest.Name].Remove(app);
            plan.Add(new PlannedMove(app.Name, fullest.Name, to.Name) { Uid = app.Uid });
        }
        return plan;
    }

    /// <summary>The plan for what is placed now.</summary>
    public static async Task<List<PlannedMove>> PlanAsync(NpgsqlDataSource db, RouterdSettings settings, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        var rows = await connection.ListAsync<(string Uid, string Name, string Server, long Owner, string Settings, long Reserved)>($"""
            select a.uid, a.name, p.server, {Fleet.Owner}, a.settings, p.reserved from apps a join placements p on p.app_uid = a.uid
            where not exists (select 1 from volumes v where v.app_uid = a.uid)
              and not exists (select 1 from moves m where m.app_uid = a.uid and (m.state <> 'failed' or m.changed_at > now() - interval '1 hour'))
              and not exists (select 1 from deployments d where d.app_uid = a.uid and d.finished_at is null)
            """, null, cancel);
        var apps = rows.Select(r => new PlacedApp(r.Uid, r.Name, r.Server, Fleet.Needs(r.Owner, r.Settings, r.Reserved))).ToList();
        var servers = await Fleet.ReadAsync(connection, [.. apps.Select(a => a.Needs.Owner).Distinct()], cancel);
        return Plan(servers, apps, settings.MemoryOvercommit);
    }

    /// <summary>Begins the moves of the plan for now, and tells them.</summary>
    public static async Task<List<PlannedMove>> BeginAsync(NpgsqlDataSource db, RouterdSettings settings, CancellationToken cancel)
    {
        var plan = await PlanAsync(db, settings, cancel);
        foreach (var move in plan.ToList())
        {
            try
            {
                await Moves.BeginAsync(db, move.Uid!, move.To, MoveReasons.Rebalance, "none", settings.MemoryOvercommit, cancel);
            }
            catch (Problem e) when (e.Status is 404 or 409)
            {
                plan.Remove(move);
            }
        }
        return plan;
    }
}
