using System.Collections.Concurrent;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Sealing;
using Appoxy.Routerd.Servers;
using Npgsql;

namespace Appoxy.Routerd.Deployments;

/// <summary>
/// Sees every unfinished deployment to its end: PUTs what is wanted, then copies what droidd says until it is final. It goes by
/// the state at hand alone, so that a restart of routerd or of droidd at any moment changes nothing but the time it takes.
/// </summary>
internal sealed partial class DeploymentRunner(
    NpgsqlDataSource db, SecretBox box, DroidServers servers, DeploymentMetrics metrics, ILogger<DeploymentRunner> log, TimeProvider time) : Rounds(TimeSpan.FromSeconds(1), log)
{
    private const int LongestMinutes = 60;
    private static readonly TimeSpan LongestQueue = TimeSpan.FromHours(24);
    private const int MaxAtOnce = 1000;
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(300);
    private static readonly TimeSpan BackOff = TimeSpan.FromSeconds(1);

    /// <summary>How long droidd may speak of another deployment than the one it was told of, after each telling.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    private readonly ConcurrentDictionary<(string Uid, int Number), bool> followed = new();

    protected override async Task RoundAsync(CancellationToken cancel)
    {
        var unfinished = await db.ListAsync<(string Uid, int Number)>(
            "select app_uid, number from deployments where finished_at is null order by created_at limit @MaxAtOnce",
            new { MaxAtOnce }, cancel);
        foreach (var (uid, number) in unfinished)
        {
            if (followed.TryAdd((uid, number), true))
                _ = FollowAsync(uid, number, cancel);
        }
    }

    private async Task FollowAsync(string uid, int number, CancellationToken cancel)
    {
        var seen = new Mismatch();
        string? fault = null;
        try
        {
            while (true)
            {
                try
                {
                    if (await StepAsync(uid, number, seen, cancel))
                        return;
                    fault = null;
                }
                catch (Exception e) when (!cancel.IsCancellationRequested)
                {
                    if (fault != e.Message && Outage.Is(e))
                        LogWaiting(log, uid, number, e.Message);
                    else if (fault != e.Message)
                        LogFault(log, e, uid, number);
                    fault = e.Message;
                }
                await Task.Delay(fault is null ? Poll : BackOff, time, cancel);
            }
        }
        catch (OperationCanceledException)
        {
            // routerd stops; the next one goes on.
        }
        finally
        {
            followed.TryRemove((uid, number), out _);
        }
    }

    /// <summary>One look at what is wanted and what is; true when the deployment has ended.</summary>
    private async Task<bool> StepAsync(string uid, int number, Mismatch seen, CancellationToken cancel)
    {
        var row = await db.FirstAsync<StepRow>("""
            select d.state, d.error, d.commit_id, d.ahead, d.cancel, d.created_at, d.started_at, d.source, d.sealed_url, a.generation, p.server
            from deployments d join apps a on a.uid = d.app_uid join placements p on p.app_uid = d.app_uid
            where d.app_uid = @uid and d.number = @number and d.finished_at is null
            """, new { uid, number }, cancel);
        if (row is null)
            return true;
        if (time.GetUtcNow() - (row.StartedAt ?? row.CreatedAt) > (row.StartedAt is null ? LongestQueue : TimeSpan.FromMinutes(LongestMinutes)))
            return await TimeOutAsync(uid, number, row, cancel);
        var server = servers[row.Server];
        var droid = await server.FindAsync(uid, cancel);
        if (row.Cancel && droid?.Deployment?.Number != number)
            return await FinishAsync(uid, number, row, new(number, DeploymentStates.Cancelled), cancel);
        if (droid is null || droid.Generation < row.Generation)
        {
            try
            {
                droid = await servers.PutAsync(uid, cancel);
            }
            catch (Problem e) when (e.Status is 400 or 507)
            {
                var reason = e.Status == 507 ? FailureReasons.DiskFull : FailureReasons.Server;
                return await FinishAsync(uid, number, row, new(number, DeploymentStates.Failed, e.Message, Reason: reason), cancel);
            }
        }
        if (droid?.Deployment is not { } now || now.Number != number)
            return await MismatchAsync(uid, number, row, seen, cancel);
        seen.Since = null;
        if (row.Cancel && !DeploymentStates.IsFinal(now.State))
            now = await CancelAsync(server, uid, now, cancel);
        if (DeploymentStates.IsFinal(now.State))
            return await FinishAsync(uid, number, row, now, cancel);
        if ((now.State, now.Error, now.Commit, now.Ahead) != (row.State, row.Error, row.CommitId, row.Ahead))
        {
            await db.RunAsync("""
                update deployments set state = @State, error = @Error, commit_id = @Commit, ahead = @Ahead,
                  started_at = case when @State = 'queued' then started_at else coalesce(started_at, now()) end
                where app_uid = @uid and number = @number and finished_at is null
                """, new { now.State, Error = Clean(uid, number, row, now.Error), now.Commit, now.Ahead, uid, number }, cancel);
        }
        return false;
    }

    private async Task<bool> TimeOutAsync(string uid, int number, StepRow row, CancellationToken cancel)
    {
        try
        {
            await servers[row.Server].CancelAsync(uid, number, cancel);
        }
        catch (Problem)
        {
            // It does not run there, or can't be told.
        }
        var words = row.StartedAt is null ? $"waited for {LongestQueue.TotalHours} hours" : $"timed out after {LongestMinutes} minutes";
        return await FinishAsync(uid, number, row, new(number, DeploymentStates.Failed, words, Reason: FailureReasons.Timeout), cancel);
    }

    private static async Task<DeploymentStatus> CancelAsync(DroidServer server, string uid, DeploymentStatus now, CancellationToken cancel)
    {
        try
        {
            return (await server.CancelAsync(uid, now.Number, cancel)).Deployment is { } then && then.Number == now.Number ? then : now;
        }
        catch (Problem e) when (e.Status is 404 or 409)
        {
            // It has just ended: the next look shows how.
            return now;
        }
    }

    /// <summary>droidd has the generation but speaks of another deployment: told again once, then the deployment is lost.</summary>
    private async Task<bool> MismatchAsync(string uid, int number, StepRow row, Mismatch seen, CancellationToken cancel)
    {
        seen.Since ??= time.GetTimestamp();
        if (time.GetElapsedTime(seen.Since.Value) < Patience)
            return false;
        if (seen.ToldAgain)
            return await FinishAsync(uid, number, row,
                new(number, DeploymentStates.Failed, $"droid-server {row.Server} no longer knows of it; deploy again",
                    Reason: FailureReasons.Server), cancel);
        (seen.Since, seen.ToldAgain) = (null, true);
        await db.RunAsync("update apps set generation = generation + 1 where uid = @uid", new { uid }, cancel);
        return false;
    }

    /// <summary>
    /// Notes the end with the log. Where it did not go live, the generation grows: what is wanted from then on is the deployment
    /// that was live before.
    /// </summary>
    private async Task<bool> FinishAsync(string uid, int number, StepRow row, DeploymentStatus end, CancellationToken cancel)
    {
        var text = "";
        try
        {
            text = await DeploymentLog.FetchAsync(servers[row.Server], uid, number, cancel);
        }
        catch (Exception e) when (Outage.Is(e) || e is Problem || (e is OperationCanceledException && !cancel.IsCancellationRequested))
        {
            LogNoLog(log, uid, number, e.Message);
        }
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var values = new { uid, number, end.State, Error = Clean(uid, number, row, end.Error), end.Reason, end.Commit, text = Clean(uid, number, row, text) };
        // The app first, as everywhere, so that two transactions can't wait for each other.
        if (end.State != DeploymentStates.Live)
            await connection.RunAsync("update apps set generation = generation + 1 where uid = @uid", values, cancel);
        var finished = await connection.RunAsync("""
            update deployments set state = @State, error = @Error, reason = @Reason, ahead = null, commit_id = coalesce(@Commit, commit_id),
              finished_at = now()
            where app_uid = @uid and number = @number and finished_at is null
            """, values, cancel);
        if (finished == 0)
            return true;
        await connection.RunAsync("""
            insert into deployment_logs (app_uid, number, log) values (@uid, @number, @text) on conflict do nothing
            """, values, cancel);
        await transaction.CommitAsync(cancel);
        metrics.Ended(end, time.GetUtcNow() - row.CreatedAt);
        LogEnded(log, uid, number, end.State);
        return true;
    }

    private string? Clean(string uid, int number, StepRow row, string? text) => text is null ? null : Sources.Mask(
        Sources.Whole(Postgres.FromJson(row.Source, AppoxyJson.Default.DroidSource), row.SealedUrl, box, uid, number),
        text.Replace("\0", "", StringComparison.Ordinal));

    private sealed class Mismatch
    {
        public long? Since { get; set; }
        public bool ToldAgain { get; set; }
    }

    private sealed record StepRow
    {
        public string State { get; init; } = "";
        public string? Error { get; init; }
        public string? CommitId { get; init; }
        public bool Cancel { get; init; }
        public int? Ahead { get; init; }
        public DateTime CreatedAt { get; init; }
        public DateTime? StartedAt { get; init; }
        public string Source { get; init; } = "{}";
        public byte[]? SealedUrl { get; init; }
        public long Generation { get; init; }
        public string Server { get; init; } = "";
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Deployment {Number} of {Uid}: {State}")]
    private static partial void LogEnded(ILogger log, string uid, int number, string state);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Deployment {Number} of {Uid} waits: {Fault}")]
    private static partial void LogWaiting(ILogger log, string uid, int number, string fault);

    [LoggerMessage(Level = LogLevel.Error, Message = "Deployment {Number} of {Uid} can't go on for now")]
    private static partial void LogFault(ILogger log, Exception e, string uid, int number);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The log of deployment {Number} of {Uid} is not there: {Fault}")]
    private static partial void LogNoLog(ILogger log, string uid, int number, string fault);
}
