using System.Collections.Concurrent;
using Appoxy.Droidd.Droids;
using Appoxy.Droidd.LocalNginx;
using Docker.DotNet;

namespace Appoxy.Droidd.Snooze;

/// <summary>
/// Puts idle droids to sleep: frozen after their pause time, stopped after their snooze time; and wakes those whose time to be awake
/// has come. Idleness is what the local nginx says; while it can't be asked, nothing is put to sleep.
/// </summary>
internal sealed partial class IdleWatch(DroidServer server, DroidDict dict, DockerPulse docker, ILogger<IdleWatch> log, TimeProvider time) : BackgroundService
{
    private static readonly TimeSpan Soonest = TimeSpan.FromSeconds(1);

    /// <summary>A droid that wakes between two looks may be due by then, and nginx's requests are shown as of the last one.</summary>
    private static readonly TimeSpan Latest = TimeSpan.FromSeconds(3);
    private const int AtOnce = 8;

    // An app that ignores SIGTERM takes its time; the others do not wait for it.
    private readonly ConcurrentDictionary<string, bool> underWay = new();
    private readonly SemaphoreSlim slots = new(AtOnce, AtOnce);
    private readonly Idleness idleness = new(time);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        for (var pause = Soonest; ; pause = await LookAsync(stoppingToken))
            await Task.Delay(pause, time, stoppingToken);
    }

    /// <summary>Sends to sleep or wakes what is due; how long the next look can wait.</summary>
    private async Task<TimeSpan> LookAsync(CancellationToken cancel)
    {
        var before = server.LastActivity;
        var activity = await dict.ActivityAsync(cancel);
        server.LastActivity = activity;
        if (activity is not null)
        {
            // nginx was away: what it read from its snapshot may be older than what is known here.
            if (before is null)
                await dict.PutAllAsync(cancel);
            idleness.Take(activity);
        }
        var (next, now, count) = (Latest, time.GetUtcNow(), 0);
        foreach (var droid in server.Droids)
        {
            count++;
            if (IsKeptAwake(droid, now))
            {
                if (IsToWake(droid) && underWay.TryAdd(droid.Uid, true))
                    _ = DoAsync(droid, "awake", () => droid.WakeAsync(failed: false), cancel);
            }
            else if (activity is not null && Due(droid, activity, idleness) is var (to, left))
            {
                if (left > TimeSpan.Zero)
                    next = left < next ? left : next;
                else if (underWay.TryAdd(droid.Uid, true))
                    _ = DoAsync(droid, to, () => SleepAsync(droid, to, cancel), cancel);
            }
        }
        if (idleness.Count > 2 * count + 100)
            idleness.Keep(uid => server.Find(uid) is not null);
        return next > Soonest ? next : Soonest;
    }

    private async Task SleepAsync(Droid droid, string to, CancellationToken cancel)
    {
        // Visitors who come while it falls asleep wait for the outcome, and a Docker that hangs would let them wait for itself.
        if (await docker.BeatsAsync())
            await droid.SleepIfFreeAsync(to, cancel);
    }

    /// <summary>Whether a droid's owner wants it awake at this time of the week.</summary>
    internal static bool IsKeptAwake(Droid droid, DateTimeOffset now) => droid.AwakeWindows.Any(w => w.Contains(now));

    // What its owner sent to sleep or stopped stays so; a crash loop goes at its own pace.
    private static bool IsToWake(Droid droid) => droid is { Live: not null, SentToSleep: false }
        && (droid.State is DroidStates.Paused or DroidStates.Snoozed || (droid.State == DroidStates.Crashed && droid.MayRetry));

    /// <summary>The state that a droid comes to by idleness, and in how long; null if it stays.</summary>
    internal static (string To, TimeSpan Left)? Due(Droid droid, Activity activity, Idleness idleness)
    {
        if (droid is not { Live: not null, Spec.Policy: { } policy, State: DroidStates.Running or DroidStates.Paused }
            || droid.InFlight(activity) > 0)
            return null;
        var idle = idleness.Of(droid.Uid, droid.ActiveStamp);
        var snooze = policy.SnoozeAfter > 0 ? TimeSpan.FromSeconds(policy.SnoozeAfter) - idle : (TimeSpan?)null;
        var pause = policy.PauseAfter > 0 && droid.State == DroidStates.Running ? TimeSpan.FromSeconds(policy.PauseAfter) - idle : (TimeSpan?)null;
        if (snooze <= TimeSpan.Zero || (snooze is not null && !(pause < snooze)))
            return (DroidStates.Snoozed, snooze.Value);
        return pause is { } left ? (DroidStates.Paused, left) : null;
    }

    private async Task DoAsync(Droid droid, string to, Func<Task> act, CancellationToken cancel)
    {
        try
        {
            await slots.WaitAsync(cancel);
            try
            {
                await act();
            }
            finally
            {
                slots.Release();
            }
        }
        catch (Exception e) when (e is DockerApiException or HttpRequestException or TimeoutException or IOException or OperationCanceledException)
        {
            if (!cancel.IsCancellationRequested)
                LogFault(log, droid.Uid, to, e.Message);
        }
        finally
        {
            underWay.TryRemove(droid.Uid, out _);
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Droid {Uid} can't become {To}: {Fault}")]
    private static partial void LogFault(ILogger log, string uid, string to, string fault);
}
