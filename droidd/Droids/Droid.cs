using System.Net;
using Appoxy.Droidd.LocalNginx;
using Docker.DotNet;

namespace Appoxy.Droidd.Droids;

/// <summary>Where a visitor's request goes after the hook was asked.</summary>
internal enum WakeOutcome
{
    /// <summary>The droid takes requests, and the dict says so.</summary>
    Ready,

    /// <summary>It does not now: 503.</summary>
    Unavailable,
}

/// <summary>
/// One app's droid on this server: the container that serves, its state, and every way from one state to another. One transition
/// runs at a time; however many visitors wake a droid, it is started once.
/// </summary>
/// <remarks>
/// running ⇄ paused → snoozed → running; running → crashed → running; any → stopped → running. nginx's dict is told before a
/// container is frozen or stopped, and after it is ready: the dict is what decides where a request goes.
/// </remarks>
internal sealed partial class Droid(
    string uid, DroidContainers containers, DroidDict dict, DroidFolder folder, ILogger log, TimeProvider time) : IDisposable
{
    private static readonly TimeSpan BusyLimit = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan HookGrace = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LongestBackOff = TimeSpan.FromMinutes(2);

    private readonly SemaphoreSlim gate = new(1, 1);
    private readonly Lock wakeLock = new();
    private readonly CancellationTokenSource lifetime = new();
    private Task<WakeOutcome>? waking;
    private DateTimeOffset lastHook;
    private DateTimeOffset retryAt;
    private int failures;

    public string Uid => uid;

    public DroidFolder Folder => folder;

    /// <summary>The newest spec accepted.</summary>
    public DroidSpec? Spec { get; set; }

    /// <summary>The container that serves; null before the first went live.</summary>
    public DroidContainer? Live { get; private set; }

    /// <summary>One of <see cref="DroidStates"/>, of <see cref="Live"/>; null without one.</summary>
    public string? State { get; private set; }

    /// <summary>Why it crashed.</summary>
    public string? Error { get; private set; }

    /// <summary>When it was last started, woken or replaced: idleness counts from here.</summary>
    public DateTimeOffset ActiveSince { get; private set; }

    public int Starts { get; private set; }

    /// <summary>Takes over what Docker has of this droid after droidd was started.</summary>
    public async Task RecoverAsync(DroidContainer live, CancellationToken cancel)
    {
        using var held = await HoldAsync(cancel);
        Live = live;
        ActiveSince = time.GetUtcNow();
        Starts = 1;
        var state = live.State switch
        {
            "running" => DroidStates.Running,
            "paused" => DroidStates.Paused,
            "restarting" => DroidStates.Crashed,
            _ => Spec?.Desired == DroidStates.Stopped ? DroidStates.Stopped : DroidStates.Snoozed,
        };
        await BecomeAsync(state, null, cancel);
    }

    /// <summary>Brings the droid to where it takes requests, or joins those who are at it already. Never throws.</summary>
    /// <param name="failed">nginx could not reach it although the dict says running: look before believing that it runs.</param>
    public async Task<WakeOutcome> WakeAsync(bool failed)
    {
        Task<WakeOutcome> mine;
        lock (wakeLock)
        {
            lastHook = time.GetUtcNow();
            // Not bound to one visitor: the others wait for the same start.
            mine = waking ??= Task.Run(() => WakeOnceAsync(failed));
        }
        try
        {
            return await mine;
        }
        finally
        {
            lock (wakeLock)
            {
                lastHook = time.GetUtcNow();
                if (waking == mine)
                    waking = null;
            }
        }
    }

    private async Task<WakeOutcome> WakeOnceAsync(bool failed)
    {
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(lifetime.Token);
        bound.CancelAfter(TimeSpan.FromMinutes(15));
        try
        {
            using var held = await HoldAsync(bound.Token);
            if (Live is null || State is null or DroidStates.Stopped || (State == DroidStates.Crashed && time.GetUtcNow() < retryAt))
                return WakeOutcome.Unavailable;
            if (State == DroidStates.Running && !failed)
            {
                await dict.PutAsync(uid, DroidStates.Running, Live.Address, bound.Token);
                return WakeOutcome.Ready;
            }
            return await StartAsync(bound.Token) ? WakeOutcome.Ready : WakeOutcome.Unavailable;
        }
        catch (Exception e) when (e is DockerApiException or HttpRequestException or TimeoutException or OperationCanceledException or IOException)
        {
            LogWakeFailed(log, uid, e.Message);
            return WakeOutcome.Unavailable;
        }
    }

    /// <summary>From whatever state Docker has it in to running and ready; the gate is held.</summary>
    private async Task<bool> StartAsync(CancellationToken cancel)
    {
        var live = Live!;
        var policy = Spec!.Policy;
        var before = await containers.InspectAsync(live.Id, cancel);
        var crashes = before.Restarts;
        if (before.Paused)
        {
            await containers.UnpauseAsync(live.Id, cancel);
        }
        else if (!before.Running)
        {
            // A start by command counts Docker's restarts from 0 again.
            (Starts, crashes) = (Starts + 1, 0);
            await containers.StartAsync(live.Id, cancel);
        }
        var fault = await Readiness.WaitAsync(live.Address, policy, async () =>
        {
            var now = await containers.InspectAsync(live.Id, cancel);
            return now.Running && now.Restarts < crashes + 3 ? null : $"exited with code {now.ExitCode} right after its start";
        }, cancel);
        if (fault is null)
        {
            (failures, ActiveSince) = (0, time.GetUtcNow());
            await BecomeAsync(DroidStates.Running, null, cancel);
            return true;
        }
        failures++;
        var backOff = TimeSpan.FromSeconds(Math.Min(5 * Math.Pow(2, failures - 1), LongestBackOff.TotalSeconds));
        retryAt = time.GetUtcNow() + backOff;
        Tell($"the app {fault}; it is tried again at a visit after {backOff.TotalSeconds:0} s");
        await BecomeAsync(DroidStates.Crashed, $"the app {fault}", cancel);
        await containers.StopAsync(live.Id, cancel);
        return false;
    }

    /// <summary>
    /// Puts an idle droid to sleep. Requests that come meanwhile wait in the hook for the outcome; those in flight are waited for.
    /// </summary>
    /// <param name="to"><c>paused</c>, <c>snoozed</c> or <c>stopped</c>.</param>
    /// <param name="limit">How long requests in flight may keep it awake until it is left running.</param>
    /// <param name="cancel">Ends the wait.</param>
    /// <returns>False if it was kept awake by requests in flight, or was not awake.</returns>
    public async Task<bool> SleepAsync(string to, TimeSpan? limit, CancellationToken cancel)
    {
        using var held = await HoldAsync(cancel);
        return await FallAsleepAsync(to, limit ?? BusyLimit, cancel);
    }

    /// <summary>The same for a droid that is idle: one that something else is done with is left alone.</summary>
    public async Task SleepIfFreeAsync(string to, CancellationToken cancel)
    {
        if (!await gate.WaitAsync(0, cancel))
            return;
        using var held = new Held(gate);
        await FallAsleepAsync(to, BusyLimit, cancel);
    }

    private async Task<bool> FallAsleepAsync(string to, TimeSpan limit, CancellationToken cancel)
    {
        if (Live is not { } live || (to != DroidStates.Stopped && State is not (DroidStates.Running or DroidStates.Paused)) || State == to)
            return State == to;
        var before = State!;
        // A request that the hook has just let through is not in flight until nginx has counted it.
        while (time.GetUtcNow() - lastHook is var since && since < HookGrace)
            await Task.Delay(HookGrace - since, time, cancel);
        await dict.PutAsync(uid, to, live.Address, cancel);
        if (!await DrainAsync(live.Address, limit, cancel) && to != DroidStates.Stopped)
        {
            await dict.PutAsync(uid, before, live.Address, cancel);
            return false;
        }
        if (to == DroidStates.Paused)
            await containers.PauseAsync(live.Id, cancel);
        else
            await containers.StopAsync(live.Id, cancel);
        await BecomeAsync(to, null, cancel);
        return true;
    }

    /// <summary>Waits until nginx has no request in flight to <paramref name="address"/>; false if it still has at the end, or can't be asked.</summary>
    public async Task<bool> DrainAsync(string address, TimeSpan limit, CancellationToken cancel)
    {
        var start = time.GetTimestamp();
        while (true)
        {
            if (await dict.ActivityAsync(cancel) is { } activity && activity.Peers.GetValueOrDefault(address) == 0)
                return true;
            if (time.GetElapsedTime(start) >= limit)
                return false;
            await Task.Delay(TimeSpan.FromMilliseconds(20), time, cancel);
        }
    }

    /// <summary>Lets <paramref name="next"/>, which is ready, serve from now on; the one before, renamed, is returned for its drain.</summary>
    public async Task<DroidContainer?> SwitchAsync(DroidContainer next, CancellationToken cancel)
    {
        using var held = await HoldAsync(cancel);
        // From here on to the end, or a half-done switch would leave the container that serves with a name that means "remove me".
        cancel = CancellationToken.None;
        var old = Live;
        if (old is not null && old.Name == uid)
        {
            await containers.RemoveAsync(uid + ".old", cancel);
            await containers.RenameAsync(old.Id, uid + ".old", cancel);
            Live = old = old with { Name = uid + ".old" };
        }
        await containers.KeepUpAsync(next.Id, cancel);
        await containers.RenameAsync(next.Id, uid, cancel);
        Live = next with { Name = uid };
        (Starts, failures, ActiveSince) = (1, 0, time.GetUtcNow());
        await BecomeAsync(DroidStates.Running, null, cancel);
        return old;
    }

    /// <summary>Starts what the owner had stopped.</summary>
    public async Task StartStoppedAsync(CancellationToken cancel)
    {
        using var held = await HoldAsync(cancel);
        if (Live is not null && State is DroidStates.Stopped or DroidStates.Crashed)
            await StartAsync(cancel);
    }

    public async Task RestartAsync()
    {
        var cancel = lifetime.Token;
        using var held = await HoldAsync(cancel);
        if (Live is not { } live)
            return;
        await dict.PutAsync(uid, DroidStates.Snoozed, live.Address, cancel);
        await DrainAsync(live.Address, BusyLimit, cancel);
        await containers.StopAsync(live.Id, cancel);
        await StartAsync(cancel);
    }

    /// <summary>Takes note of what Docker did on its own: a crash, a revival, a stop by hand.</summary>
    public async Task ObserveAsync(DroidContainer seen, CancellationToken cancel)
    {
        // A transition in progress knows better than a list made before it.
        if (!await gate.WaitAsync(0, cancel))
            return;
        try
        {
            if (seen.Id != Live?.Id)
                return;
            if (State == DroidStates.Running && seen.State is "exited" or "dead")
            {
                Tell("the container was stopped from outside; the next visit starts it");
                await BecomeAsync(DroidStates.Snoozed, null, cancel);
            }
            else if (State == DroidStates.Running && seen.State == "paused")
            {
                await BecomeAsync(DroidStates.Paused, null, cancel);
            }
            else if (State == DroidStates.Running && seen.State == "restarting")
            {
                var now = await containers.InspectAsync(seen.Id, cancel);
                Tell($"the app exited with code {now.ExitCode}{(now.OutOfMemory ? " (out of memory)" : "")}; it is started again");
                await BecomeAsync(DroidStates.Crashed, $"the app exited with code {now.ExitCode}", cancel);
            }
            else if (State is DroidStates.Crashed or DroidStates.Snoozed && seen.State == "running"
                     && await Readiness.AcceptsAsync(IPEndPoint.Parse(seen.Address), cancel))
            {
                ActiveSince = time.GetUtcNow();
                await BecomeAsync(DroidStates.Running, null, cancel);
            }
        }
        finally
        {
            gate.Release();
        }
    }

    /// <summary>Gives up a start that is under way: the droid is about to be deleted.</summary>
    public Task EndAsync() => lifetime.CancelAsync();

    /// <summary>Forgets the container, which is gone from Docker or about to be removed.</summary>
    public async Task ForgetAsync(CancellationToken cancel)
    {
        using var held = await HoldAsync(cancel);
        (Live, State) = (null, null);
        await dict.DeleteAsync(uid, cancel);
    }

    /// <summary>Adds a line of the platform's own to the app's log.</summary>
    public void Tell(string text) => folder.AddEvent(time.GetUtcNow(), text);

    private async Task BecomeAsync(string state, string? error, CancellationToken cancel)
    {
        if (State is not null && State != state)
            LogBecame(log, uid, State, state);
        (State, Error) = (state, error);
        await dict.PutAsync(uid, state, Live!.Address, cancel);
    }

    private async Task<IDisposable> HoldAsync(CancellationToken cancel)
    {
        await gate.WaitAsync(cancel);
        return new Held(gate);
    }

    public void Dispose()
    {
        gate.Dispose();
        lifetime.Dispose();
    }

    private sealed class Held(SemaphoreSlim gate) : IDisposable
    {
        public void Dispose() => gate.Release();
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Droid {Uid}: {Before} → {After}")]
    private static partial void LogBecame(ILogger log, string uid, string before, string after);

    [LoggerMessage(Level = LogLevel.Error, Message = "Droid {Uid} can't be woken: {Fault}")]
    private static partial void LogWakeFailed(ILogger log, string uid, string fault);
}
