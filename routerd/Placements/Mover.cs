using System.Collections.Concurrent;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Deployments;
using Appoxy.Routerd.Servers;
using Npgsql;

namespace Appoxy.Routerd.Placements;

/// <summary>
/// Takes apps to other droid-servers: what was built goes over, the app is started there beside the one that serves, and only when it is
/// ready the route is switched and the old one removed. Each look goes by the facts at hand alone, so that a routerd or a droidd that is
/// killed at any moment costs time and nothing else. One routerd does it at a time.
/// </summary>
internal sealed partial class Mover(
    NpgsqlDataSource db, DroidServers servers, Evacuation evacuation, UploadStore uploads, ILogger<Mover> log, TimeProvider time)
    : Rounds(TimeSpan.FromSeconds(2), log)
{
    private const int LeaderLock = 7043;
    private const int AtOnce = 4;
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan BackOff = TimeSpan.FromSeconds(2);

    /// <summary>How long an app may take to be ready on its new server, a build included.</summary>
    private static readonly TimeSpan LongestStart = TimeSpan.FromMinutes(45);

    private readonly ConcurrentDictionary<string, Task> moving = new();

    protected override async Task RoundAsync(CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        if (!await connection.FirstAsync<bool>("select pg_try_advisory_lock(@LeaderLock)", new { LeaderLock }, cancel))
            return;
        using var lead = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        try
        {
            // One that stalls is dropped by Postgres, and another routerd takes over.
            await connection.RunAsync("set idle_session_timeout = '30s'; set tcp_user_timeout = '15s'", null, cancel);
            while (true)
            {
                await evacuation.LookAsync(cancel);
                var due = await connection.ListAsync<string>(
                    "select app_uid from moves where state <> 'failed' order by reason <> 'down', created_at limit 100", null, cancel);
                foreach (var uid in due.Where(u => !moving.ContainsKey(u)).Take(AtOnce - moving.Count))
                    moving[uid] = Task.Run(() => MoveAsync(uid, lead.Token), CancellationToken.None);
                await Task.Delay(Look, time, cancel);
            }
        }
        finally
        {
            await lead.CancelAsync();
            await Task.WhenAll(moving.Values);
            // The lock goes with the session: when the pool uses it again, or Postgres ends it for being idle.
            await connection.CloseAsync();
        }
    }

    private async Task MoveAsync(string uid, CancellationToken cancel)
    {
        try
        {
            for (string? fault = null; ; )
            {
                try
                {
                    if (await StepAsync(uid, cancel))
                        return;
                    fault = null;
                }
                catch (Exception e) when (!cancel.IsCancellationRequested)
                {
                    if (fault != e.Message && Outage.Is(e))
                        LogWaits(log, uid, e.Message);
                    else if (fault != e.Message)
                        LogFault(log, e, uid);
                    fault = e.Message;
                    await NoteAsync(uid, Outage.Words(e), cancel);
                }
                await Task.Delay(fault is null ? Look : BackOff, time, cancel);
            }
        }
        catch (OperationCanceledException)
        {
            // routerd stops, or leads no more; the next one goes on.
        }
        catch (Exception e) when (Outage.IsPostgres(e))
        {
            // The next round looks again.
        }
        finally
        {
            moving.TryRemove(uid, out _);
        }
    }

    /// <summary>One look at where an app is on its way, and one step further; true when nothing is left to do.</summary>
    private async Task<bool> StepAsync(string uid, CancellationToken cancel)
    {
        var m = await db.FirstAsync<Step>("""
            select m.app_uid, m.source, m.target, m.reason, m.volumes, m.state, m.frozen, m.changed_at, a.name, a.generation, a.desired, p.server as placed,
                   (select max(number) from deployments d where d.app_uid = a.uid and d.state = 'live') as live,
                   exists (select 1 from deployments d where d.app_uid = a.uid and d.finished_at is null) as deploying,
                   exists (select 1 from removals r where r.app_uid = a.uid and r.server = m.target) as leaving,
                   coalesce((select s.down_since is not null from servers s where s.name = m.source), true) as source_down,
                   coalesce((select s.down_since is not null from servers s where s.name = m.target), true) as target_down
            from moves m join apps a on a.uid = m.app_uid join placements p on p.app_uid = m.app_uid
            where m.app_uid = @uid and m.state <> 'failed' and m.target is not null
            """, new { uid }, cancel);
        if (m is null)
            return true;
        if (m.Placed != m.Source || (m.Reason == MoveReasons.Down && !m.SourceDown))
        {
            await EndAsync(m, null, cancel);
            return true;
        }
        if (m.TargetDown)
            return await FailAsync(m, $"{m.Target} is down", cancel);
        if (m is { SourceDown: true, Volumes: "copy" })
            return await FailAsync(m, $"{m.Source}, which holds its volumes, is down", cancel);
        // What is deployed meanwhile goes first; and what is left there of an earlier stay has to be gone.
        if (m.Deploying || m.Leaving)
            return await BecomeAsync(m, "waiting", cancel);
        if (m.Live is not { } live)
            return await SwitchAsync(m, cancel);
        var (source, target) = (m.SourceDown ? null : servers[m.Source], servers[m.Target]);
        var here = source is null ? null : await source.FindAsync(uid, cancel);
        var there = await target.FindAsync(uid, cancel);
        if (there is not null && there.Generation >= m.Generation && there.Deployment?.Number == live)
        {
            if (there.Live?.Deployment == live && (there.State == DroidStates.Running || IsAsleep(m, here) || source is null))
                return await SwitchAsync(m, cancel);
            if (there.Deployment.State is DeploymentStates.Failed or DeploymentStates.Cancelled)
                return await FailAsync(m, $"it does not start on {m.Target}: {there.Deployment.Error ?? there.Deployment.State}", cancel);
            return time.GetUtcNow() - m.ChangedAt > LongestStart && await FailAsync(m, $"it does not get ready on {m.Target}", cancel);
        }
        if (m is { Volumes: "copy", Frozen: false })
        {
            await FreezeAsync(uid, cancel);
            return false;
        }
        if (m is { Volumes: "copy", Frozen: true } && here is { Live: not null, State: not DroidStates.Stopped })
            return false;
        if (m.State != "starting")
        {
            await BecomeAsync(m, "copying", cancel);
            if (!await BringReleasesAsync(m, live, source, target, cancel))
                return await FailAsync(m, $"it was built of an upload that {m.Source} alone has; deploy it again", cancel);
            if (m.Volumes == "copy")
                await BringVolumesAsync(m, source!, target, cancel);
            await BecomeAsync(m, "starting", cancel);
        }
        await StartAsync(m, live, here, target, cancel);
        return false;
    }

    /// <summary>An app that sleeps is not woken to be moved, nor is one started that is stopped or does not run.</summary>
    private static bool IsAsleep(Step m, DroidStatus? here) => m.Desired == DroidStates.Stopped
        || (!m.Frozen && here?.State is DroidStates.Paused or DroidStates.Snoozed or DroidStates.Stopped or DroidStates.Crashed);

    private async Task StartAsync(Step m, int live, DroidStatus? here, DroidServer target, CancellationToken cancel)
    {
        var asleep = IsAsleep(m, here);
        var has = (await target.ReleasesAsync(m.AppUid, cancel)).Any(r => r.Deployment == live);
        var commit = has ? null : await db.FirstAsync<string>(
            "select commit_id from deployments where app_uid = @AppUid and number = @live", new { m.AppUid, live }, cancel);
        await servers.PutToAsync(m.AppUid, m.Target, spec => spec.Deployment != live || spec.Generation != m.Generation ? null : spec with
        {
            Desired = m.Desired,
            Asleep = asleep && has ? true : null,
            RollbackTo = has ? spec.RollbackTo : null,
            Rebuild = false,
            // The branch may have gone on since.
            Source = spec.Source.Git is { } git && commit is not null ? spec.Source with { Git = git with { Ref = commit } } : spec.Source,
        }, cancel);
    }

    /// <summary>Has the new server have what was built for the app; where the old one can't give it, it is built anew there.</summary>
    private async Task<bool> BringReleasesAsync(Step m, int live, DroidServer? source, DroidServer target, CancellationToken cancel)
    {
        var releases = source is null ? [] : (await source.ReleasesAsync(m.AppUid, cancel))
            .Where(r => r.Deployment == live || (r.Deployment < live && r.State == DeploymentStates.Live))
            .Select(r => r.Deployment == live ? r with { State = null, Released = true } : r).ToList();
        if (releases.All(r => r.Deployment != live))
        {
            if (!await uploads.HandOutAsync(m.AppUid, live, target, cancel))
                return false;
            // Its release command has done its work on the old server.
            releases.Insert(0, new HandedRelease(live, null, "", null, Released: true));
        }
        var missing = await target.TakeReleasesAsync(m.AppUid, releases, cancel);
        if (missing.Count == 0)
            return true;
        using var images = await source!.OpenImagesAsync(m.AppUid, missing, cancel);
        await using var counted = await CountedStream.OpenAsync(images, bytes => NoteCopiedAsync(m.AppUid, bytes, cancel), time, cancel);
        await target.LoadImagesAsync(m.AppUid, counted, cancel);
        await NoteCopiedAsync(m.AppUid, counted.Count, cancel);
        missing = await target.TakeReleasesAsync(m.AppUid, releases, cancel);
        if (missing.Contains(live))
            throw Problem.Unavailable($"{m.Target} has taken the images of {m.Name}, but not as the same ones");
        return true;
    }

    /// <summary>Copies what the volumes of an app hold, which is stopped meanwhile.</summary>
    private async Task BringVolumesAsync(Step m, DroidServer source, DroidServer target, CancellationToken cancel)
    {
        foreach (var id in await db.ListAsync<string>("select id from volumes where app_uid = @AppUid order by id", m, cancel))
        {
            try
            {
                using var files = await source.OpenVolumeAsync(m.AppUid, id, cancel);
                await using var counted = await CountedStream.OpenAsync(files, bytes => NoteCopiedAsync(m.AppUid, bytes, cancel), time, cancel);
                await target.FillVolumeAsync(m.AppUid, id, counted, cancel);
            }
            catch (Problem e) when (e.Status == 404)
            {
                // Nothing was ever in it.
            }
        }
    }

    /// <summary>Stops the app on its old server until it is on the new one, or can't be moved.</summary>
    private async Task FreezeAsync(string uid, CancellationToken cancel)
    {
        await db.RunAsync("""
            with app as (update apps set generation = generation + 1 where uid = @uid returning uid)
            update moves set frozen = true, changed_at = now() from app where app_uid = app.uid and state <> 'failed' and not frozen
            """, new { uid }, cancel);
        await servers.PutAsync(uid, cancel);
    }

    /// <summary>Lets the new server serve from now on, if nothing has changed since the look; the old one is to be removed.</summary>
    private async Task<bool> SwitchAsync(Step m, CancellationToken cancel)
    {
        await using (await servers.PauseAsync(m.AppUid, cancel))
        {
            await using var connection = await db.OpenConnectionAsync(cancel);
            await using var transaction = await connection.BeginTransactionAsync(cancel);
            // The app first, as everywhere.
            if (await connection.FirstAsync<long>("select generation from apps where uid = @AppUid for update", m, cancel) != m.Generation
                || await connection.FirstAsync<bool>("select exists (select 1 from deployments where app_uid = @AppUid and finished_at is null)", m, cancel)
                || await connection.RunAsync("delete from moves where app_uid = @AppUid and target = @Target and state <> 'failed'", m, cancel) == 0
                || await connection.RunAsync("update placements set server = @Target where app_uid = @AppUid and server = @Source", m, cancel) == 0)
                return false;
            await connection.RunAsync("""
                insert into removals (app_uid, server, generation, route_version) select @AppUid, @Source, @Generation, version from route_version
                on conflict (app_uid, server) do update set generation = excluded.generation, route_version = excluded.route_version
                """, m, cancel);
            await connection.RunAsync("update apps set generation = generation + 1 where uid = @AppUid", m, cancel);
            await transaction.CommitAsync(cancel);
        }
        LogMoved(log, m.Name, m.AppUid, m.Source, m.Target, m.Reason);
        await servers.PushAsync(m.AppUid, cancel);
        return true;
    }

    private async Task<bool> FailAsync(Step m, string error, CancellationToken cancel)
    {
        LogFailed(log, m.Name, m.AppUid, m.Target, error);
        await EndAsync(m, error, cancel);
        return true;
    }

    /// <summary>Gives a move up: what it brought to the new server goes, and the old one serves on.</summary>
    private async Task EndAsync(Step m, string? error, CancellationToken cancel)
    {
        await using (var connection = await db.OpenConnectionAsync(cancel))
        {
            await using var transaction = await connection.BeginTransactionAsync(cancel);
            await connection.RunAsync("select 1 from apps where uid = @AppUid for update", m, cancel);
            var placed = await connection.FirstAsync<string>("select server from placements where app_uid = @AppUid", m, cancel);
            if (placed is not null && placed != m.Target)
            {
                await connection.RunAsync(
                    "insert into removals (app_uid, server) select @AppUid, name from servers where name = @Target on conflict do nothing", m, cancel);
            }
            if (m.Frozen)
                await connection.RunAsync("update apps set generation = generation + 1 where uid = @AppUid", m, cancel);
            await connection.RunAsync(error is null ? "delete from moves where app_uid = @AppUid"
                : "update moves set state = 'failed', frozen = false, error = @error, changed_at = now() where app_uid = @AppUid",
                new { m.AppUid, error }, cancel);
            await transaction.CommitAsync(cancel);
        }
        if (m.Frozen)
            await servers.PushAsync(m.AppUid, cancel);
    }

    private async Task<bool> BecomeAsync(Step m, string state, CancellationToken cancel)
    {
        if (m.State != state)
        {
            await db.RunAsync("update moves set state = @state, error = null, changed_at = now() where app_uid = @AppUid and state <> 'failed'",
                new { m.AppUid, state }, cancel);
            m.State = state;
        }
        return false;
    }

    private async Task NoteAsync(string uid, string error, CancellationToken cancel)
    {
        try
        {
            await db.RunAsync("update moves set error = @error where app_uid = @uid and state <> 'failed'", new { uid, error }, cancel);
        }
        catch (Exception e) when (Outage.IsPostgres(e))
        {
            // It tells nobody now.
        }
    }

    private Task NoteCopiedAsync(string uid, long bytes, CancellationToken cancel) =>
        db.RunAsync("update moves set copied = @bytes where app_uid = @uid", new { uid, bytes }, cancel);

    private sealed record Step
    {
        public string AppUid { get; init; } = "";
        public string Source { get; init; } = "";
        public string Target { get; init; } = "";
        public string Reason { get; init; } = "";
        public string Volumes { get; init; } = "";
        public string State { get; set; } = "";
        public bool Frozen { get; init; }
        public DateTime ChangedAt { get; init; }
        public string Name { get; init; } = "";
        public long Generation { get; init; }
        public string Desired { get; init; } = "";
        public string Placed { get; init; } = "";
        public int? Live { get; init; }
        public bool Deploying { get; init; }
        public bool Leaving { get; init; }
        public bool SourceDown { get; init; }
        public bool TargetDown { get; init; }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "{Name} ({Uid}) has moved from {Source} to {Target}: {Reason}")]
    private static partial void LogMoved(ILogger log, string name, string uid, string source, string target, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Name} ({Uid}) can't be moved to {Target}: {Fault}")]
    private static partial void LogFailed(ILogger log, string name, string uid, string target, string fault);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The move of {Uid} waits: {Fault}")]
    private static partial void LogWaits(ILogger log, string uid, string fault);

    [LoggerMessage(Level = LogLevel.Error, Message = "The move of {Uid} can't go on for now")]
    private static partial void LogFault(ILogger log, Exception e, string uid);
}
