using Appoxy.Routerd.Database;
using Appoxy.Routerd.Servers;
using Npgsql;

namespace Appoxy.Routerd.Placements;

/// <summary>
/// Finds the apps that have to leave their droid-server, since it drains or is down, and begins their moves. Where most servers fall silent
/// at once, it is more likely that this routerd is cut off: then nothing is moved.
/// </summary>
internal sealed partial class Evacuation(
    NpgsqlDataSource db, DroidServers servers, Probes probes, RouterdSettings settings, ILogger<Evacuation> log, TimeProvider time)
{
    /// <summary>Servers that fell silent within such a time count as at once.</summary>
    public const string AtOnce = "10 minutes";
    private const int Batch = 50;
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan RebalancePause = TimeSpan.FromMinutes(5);

    /// <summary>Whether most of the servers, but those that were down before, are silent.</summary>
    private const string Braked = $"""
        select 2 * count(*) filter (where down_since is not null or seen_at < now() - @half) > count(*) and count(*) > 0
        from servers where down_since is null or down_since > (select max(down_since) from servers) - interval '{AtOnce}'
        """;

    private long looked = time.GetTimestamp();
    private long rebalanced = time.GetTimestamp();
    private bool braked;

    public static Task<bool> IsBrakedAsync(NpgsqlDataSource db, RouterdSettings settings, CancellationToken cancel) =>
        // Not less than a round of questions may take.
        db.FirstAsync<bool>(Braked, new { half = TimeSpan.FromSeconds(Math.Max(10, settings.DownAfterTime.TotalSeconds / 2)) }, cancel);

    public async Task LookAsync(CancellationToken cancel)
    {
        if (time.GetElapsedTime(looked) < Pause)
            return;
        looked = time.GetTimestamp();
        var silent = servers.Known.Select(s => s.Name).Where(s => probes.SilenceOf(s) >= settings.DownAfterTime).ToArray();
        // Another routerd may hear it.
        foreach (var server in await db.ListAsync<string>("""
            update servers set down_since = now()
            where name = any(@silent) and down_since is null and coalesce(seen_at, created_at) < now() - @limit returning name
            """, new { silent, limit = settings.DownAfterTime }, cancel))
            LogDown(log, server, settings.DownAfter);
        var brake = await IsBrakedAsync(db, settings, cancel);
        if (brake && !braked)
            LogBraked(log);
        braked = brake;
        if (!brake)
            await LeaveAsync(MoveReasons.Down, cancel);
        await LeaveAsync(MoveReasons.Drain, cancel);
        if (!brake && settings.Rebalance == "on" && time.GetElapsedTime(rebalanced) > RebalancePause)
        {
            rebalanced = time.GetTimestamp();
            await Rebalance.BeginAsync(db, settings, cancel);
        }
    }

    private async Task LeaveAsync(string reason, CancellationToken cancel)
    {
        // One that could not go is looked at again after a while: another server may have come, or be back.
        var due = await db.ListAsync<(string Uid, string Server, string Volumes)>($"""
            select p.app_uid, p.server, case when s.drain_volumes and s.down_since is null then 'copy' else 'none' end
            from servers s join placements p on p.server = s.name join apps a on a.uid = p.app_uid left join moves m on m.app_uid = p.app_uid
            where {(reason == MoveReasons.Down ? "s.down_since is not null and coalesce(a.settings ->> 'moveWhenDown', 'on') = 'on'"
                : "s.draining and s.down_since is null")}
              and (m.app_uid is null or (m.state = 'failed' and (m.changed_at < now() - case when m.target is null then interval '15 seconds' else interval '1 minute' end or m.source <> p.server)))
            order by m.changed_at nulls first, a.name limit {Batch}
            """, null, cancel);
        foreach (var (uid, server, volumes) in due)
        {
            try
            {
                await Moves.BeginAsync(db, uid, null, reason, volumes, settings.MemoryOvercommit, cancel);
            }
            catch (Problem e) when (e.Status == 409)
            {
                await Moves.NoteStuckAsync(db, uid, server, reason, e.Message, cancel);
            }
            catch (Problem e) when (e.Status == 404)
            {
                // Gone meanwhile.
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Server} has not answered for {Limit}: it counts as down")]
    private static partial void LogDown(ILogger log, string server, string limit);

    [LoggerMessage(Level = LogLevel.Error,
        Message = "Most droid-servers do not answer: this machine is cut off rather than all of them down, so no app is moved")]
    private static partial void LogBraked(ILogger log);
}
