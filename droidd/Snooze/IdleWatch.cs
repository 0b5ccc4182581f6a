using System.Collections.Concurrent;
using Appoxy.Droidd.Droids;
using Appoxy.Droidd.LocalNginx;
using Docker.DotNet;

namespace Appoxy.Droidd.Snooze;

/// <summary>
/// Puts idle droids to sleep: frozen after their pause time, stopped after their snooze time. Idleness is what the local nginx
/// says; while it can't be asked, nothing is put to sleep.
/// </summary>
internal sealed partial class IdleWatch(DroidServer server, DroidDict dict, ILogger<IdleWatch> log, TimeProvider time) : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);
    private const int AtOnce = 8;

    // An app that ignores SIGTERM takes its time; the others do not wait for it.
    private readonly ConcurrentDictionary<string, bool> underWay = new();
    private readonly SemaphoreSlim slots = new(AtOnce, AtOnce);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Interval, time);
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            var before = server.LastActivity;
            if (await dict.ActivityAsync(stoppingToken) is not { } activity)
            {
                server.LastActivity = null;
                continue;
            }
            // nginx was away: what it read from its snapshot may be older than what is known here.
            if (before is null)
                await dict.PutAllAsync(stoppingToken);
            server.LastActivity = activity;
            foreach (var droid in server.Droids)
            {
                if (Due(droid, activity, time.GetUtcNow()) is { } to && underWay.TryAdd(droid.Uid, true))
                    _ = SleepAsync(droid, to, stoppingToken);
            }
        }
    }

    /// <summary>The state that a droid is due for; null if it stays.</summary>
    internal static string? Due(Droid droid, Activity activity, DateTimeOffset now)
    {
        if (droid is not { Live: not null, Spec.Policy: { } policy, State: DroidStates.Running or DroidStates.Paused }
            || droid.InFlight(activity) > 0)
            return null;
        var active = droid.ActiveSince;
        if (activity.Droids.TryGetValue(droid.Uid, out var last) && DateTimeOffset.FromUnixTimeMilliseconds(last) is var request && request > active)
            active = request;
        var idle = (now - active).TotalSeconds;
        if (policy.SnoozeAfter > 0 && idle >= policy.SnoozeAfter)
            return DroidStates.Snoozed;
        return policy.PauseAfter > 0 && idle >= policy.PauseAfter && droid.State == DroidStates.Running ? DroidStates.Paused : null;
    }

    private async Task SleepAsync(Droid droid, string to, CancellationToken cancel)
    {
        try
        {
            await slots.WaitAsync(cancel);
            try
            {
                await droid.SleepIfFreeAsync(to, cancel);
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
