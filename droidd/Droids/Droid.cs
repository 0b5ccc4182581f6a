using System.Net;
using Appoxy.Droidd.Builds;
using Appoxy.Droidd.Isolation;
using Appoxy.Droidd.LocalNginx;
using Appoxy.Droidd.Snooze;
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

/// <summary>One process of a droid.</summary>
/// <param name="Container">The container that it runs in.</param>
/// <param name="State">One of <see cref="DroidStates"/>.</param>
/// <param name="Since">Since when.</param>
/// <param name="Stamp">The same as a timestamp of the clock that never jumps.</param>
internal sealed record DroidProcess(DroidContainer Container, string State, DateTimeOffset Since, long Stamp)
{
    /// <summary>Why it ended last.</summary>
    public string? Error { get; init; }

    /// <summary>How often it has ended by itself, as far as was seen.</summary>
    public int Restarts { get; init; }

    public string Name => Container.Process;

    public bool IsWeb => Container.IsWeb;
}

/// <summary>
/// One app's droid on this server: the processes of the release that serves, their state, and every way from one state to another. One
/// transition runs at a time; however many visitors wake a droid, it is started once.
/// </summary>
/// <remarks>
/// running ⇄ paused → snoozed → running; running → crashed → running; any → stopped → running. The droid's state is that of its web
/// processes, which sleep and wake together, and runs as long as one of them does. nginx's dict is told before a container is frozen or
/// stopped, and after it is ready: the dict is what decides where a request goes.
/// </remarks>
internal sealed partial class Droid(
    string uid, DroidContainers containers, DroidDict dict, DroidFolder folder, ILogger log, TimeProvider time) : IDisposable
{
    private static readonly TimeSpan BusyLimit = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan HookGrace = TimeSpan.FromSeconds(1);

    /// <summary>How long a wake waits for further web processes once the first is ready; later ones join when they are.</summary>
    private static readonly TimeSpan OthersGrace = TimeSpan.FromMilliseconds(250);

    /// <summary>How long visitors wait in the hook for requests in flight to end; then the droid stays awake for them.</summary>
    private static readonly TimeSpan Courtesy = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan LongestBackOff = TimeSpan.FromMinutes(2);

    /// <summary>How long a wake waits for a Docker that is being started again.</summary>
    private static readonly TimeSpan DockerRestart = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan DockerRetry = TimeSpan.FromMilliseconds(250);

    private const string NotYet = "is not ready yet";

    private readonly SemaphoreSlim gate = new(1, 1);
    private readonly Lock wakeLock = new();
    private readonly CancellationTokenSource lifetime = new();
    private Task<WakeOutcome>? waking;
    private volatile IReadOnlyList<DroidProcess> processes = [];
    // Moments of the clock that never jumps.
    private long lastHook;
    private long retryAt;
    private int failures;
    private (string Text, IReadOnlyList<AwakeWindow> Windows) awake = ("", []);

    public string Uid => uid;

    public DroidFolder Folder => folder;

    /// <summary>The newest spec accepted.</summary>
    public DroidSpec? Spec { get; set; }

    /// <summary>The processes of the release that serves: web first, each type by its numbers; empty before the first went live.</summary>
    public IReadOnlyList<DroidProcess> Processes => processes;

    /// <summary>The first web process's container; null before the first went live.</summary>
    public DroidContainer? Live => processes.Count > 0 ? processes[0].Container : null;

    /// <summary>One of <see cref="DroidStates"/>, of the web processes together; null without one.</summary>
    public string? State { get; private set; }

    /// <summary>Why it crashed.</summary>
    public string? Error { get; private set; }

    /// <summary>When it was last started, woken or replaced.</summary>
    public DateTimeOffset ActiveSince { get; private set; }

    /// <summary>The same as a timestamp of the clock that never jumps: idleness counts from here.</summary>
    public long ActiveStamp { get; private set; }

    /// <summary>How long it takes to wake.</summary>
    public WakeTimes WakeTimes { get; } = new(folder);

    /// <summary>Whether a browser gets a page instead of the wait; a frozen one wakes too fast for that.</summary>
    public bool ShowsPage => State == DroidStates.Snoozed && Spec?.Policy.WakePage == true;

    /// <summary>When it is kept awake, by its spec.</summary>
    public IReadOnlyList<AwakeWindow> AwakeWindows
    {
        get
        {
            if (Spec?.Policy.KeepAwake is not { } text)
                return [];
            if (awake.Text != text)
                awake = (text, AwakeWindow.Parse(text) ?? []);
            return awake.Windows;
        }
    }

    /// <summary>Whether its owner sent it to sleep: then it stays so until somebody visits.</summary>
    public bool SentToSleep { get; private set; }

    /// <summary>Whether a start that failed may be tried again.</summary>
    public bool MayRetry => failures > 0 && time.GetTimestamp() >= retryAt;

    public int Starts { get; private set; }

    /// <summary>Requests with its web processes, as nginx counts them.</summary>
    public int InFlight(Activity? activity) => processes.Where(p => p.IsWeb).Sum(p => activity?.Peers.GetValueOrDefault(p.Container.Address) ?? 0);

    /// <summary>Takes over what Docker has of this droid after droidd was started.</summary>
    /// <param name="release">The containers of the release that serves, with a <c>web</c> among them.</param>
    /// <param name="cancel">Ends it.</param>
    public async Task RecoverAsync(IEnumerable<DroidContainer> release, CancellationToken cancel)
    {
        using var held = await HoldAsync(cancel);
        Activate();
        Starts = 1;
        var asleep = Spec?.Desired == DroidStates.Stopped ? DroidStates.Stopped : DroidStates.Snoozed;
        processes = InOrder(release.Select(c => new DroidProcess(c, c.State switch
        {
            "running" => DroidStates.Running,
            "paused" => DroidStates.Paused,
            "restarting" => DroidStates.Crashed,
            _ => asleep,
        }, ActiveSince, ActiveStamp)));
        var webs = processes.Where(p => p.IsWeb).Select(p => p.State).ToList();
        await BecomeAsync(new[] { DroidStates.Running, DroidStates.Paused, DroidStates.Crashed }.FirstOrDefault(webs.Contains) ?? asleep, null, cancel);
    }

    /// <summary>Brings the droid to where it takes requests, or joins those who are at it already. Never throws.</summary>
    /// <param name="failed">nginx could not reach it although the dict says running: look before believing that it runs.</param>
    public async Task<WakeOutcome> WakeAsync(bool failed)
    {
        Task<WakeOutcome> mine;
        lock (wakeLock)
        {
            lastHook = time.GetTimestamp();
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
                lastHook = time.GetTimestamp();
                if (waking == mine)
                    waking = null;
            }
        }
    }

    private async Task<WakeOutcome> WakeOnceAsync(bool failed)
    {
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(lifetime.Token);
        bound.CancelAfter(TimeSpan.FromMinutes(15));
        for (var began = time.GetTimestamp(); ;)
        {
            try
            {
                using (await HoldAsync(bound.Token))
                    return await WakeHeldAsync(failed, bound.Token);
            }
            catch (Exception e) when (e is HttpRequestException or IOException and not IsolationException && time.GetElapsedTime(began) < DockerRestart)
            {
                // Docker is away, most likely for a moment.
                await Task.Delay(DockerRetry, time, bound.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
            catch (Exception e) when (e is DockerApiException or HttpRequestException or TimeoutException or OperationCanceledException or IOException)
            {
                LogWakeFailed(log, uid, e.Message);
                return WakeOutcome.Unavailable;
            }
        }
    }

    private async Task<WakeOutcome> WakeHeldAsync(bool failed, CancellationToken cancel)
    {
        if (Live is null || State is null or DroidStates.Stopped || (State == DroidStates.Crashed && time.GetTimestamp() < retryAt))
            return WakeOutcome.Unavailable;
        // A restart that Docker cut short leaves none.
        if (State == DroidStates.Running && !failed && HasOpenWeb())
        {
            await TellDictAsync(DroidStates.Running, cancel);
            return WakeOutcome.Ready;
        }
        // It may run well, and have been taken off its network by hand.
        if (State == DroidStates.Running)
            await Task.WhenAll(processes.Where(p => p.IsWeb).Select(p => ReconnectAsync(p, cancel)));
        return await StartAsync(cancel) ? WakeOutcome.Ready : WakeOutcome.Unavailable;
    }

    /// <summary>
    /// From whatever state Docker has them in to running and ready; the gate is held. Done as soon as one web process is ready and the
    /// others have had a moment; those join when they are.
    /// </summary>
    private async Task<bool> StartAsync(CancellationToken cancel)
    {
        var policy = Spec!.Policy;
        var began = time.GetTimestamp();
        var (webs, workers) = (processes.Where(p => p.IsWeb).ToList(), processes.Where(p => !p.IsWeb).ToList());
        using var late = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        var working = Task.WhenAll(workers.Select(p => StartWorkerAsync(p, cancel)));
        var begun = await Task.WhenAll(webs.Select(p => ThawOrStartAsync(p, cancel)));
        var readies = webs.Zip(begun, (p, b) => ReadyAsync(p, policy, b.Restarts, late.Token)).ToList();
        string? first = null;
        var ready = false;
        await foreach (var one in Task.WhenEach(readies))
        {
            (var web, var fault) = await one;
            first ??= fault;
            if (fault is null && !ready)
            {
                ready = true;
                late.CancelAfter(OthersGrace);
            }
            Note(web.Name, fault is null ? DroidStates.Running : fault == NotYet ? DroidStates.Starting : DroidStates.Crashed,
                fault is null || fault == NotYet ? null : fault);
        }
        await working;
        cancel.ThrowIfCancellationRequested();
        if (ready)
        {
            failures = 0;
            Activate();
            await BecomeAsync(DroidStates.Running, null, cancel);
            WakeTimes.Add(begun.All(b => b.Thawed), time.GetElapsedTime(began));
            DroidMetrics.Woke(Spec.App, begun.All(b => b.Thawed), ready: true, time.GetElapsedTime(began));
            return true;
        }
        DroidMetrics.Woke(Spec.App, begun.All(b => b.Thawed), ready: false, time.GetElapsedTime(began));
        failures++;
        var backOff = TimeSpan.FromSeconds(Math.Min(5 * Math.Pow(2, failures - 1), LongestBackOff.TotalSeconds));
        retryAt = time.GetTimestamp() + (long)(backOff.TotalSeconds * time.TimestampFrequency);
        Tell($"the app {first}; it is tried again at a visit after {backOff.TotalSeconds:0} s");
        await BecomeAsync(DroidStates.Crashed, $"the app {first}", cancel);
        // Else Docker would go on trying, and the app would be there at times.
        await Task.WhenAll(processes.Where(p => p.IsWeb || policy.SnoozeWorkers).Select(p => containers.StopAsync(p.Container.Id, cancel)));
        return false;
    }

    /// <summary>Makes a container run that does not: whether it was frozen, and how often Docker had revived it, where that is known.</summary>
    private async Task<(bool Thawed, long? Restarts)> ThawOrStartAsync(DroidProcess process, CancellationToken cancel)
    {
        var id = process.Container.Id;
        // As a rule it is what it was left as, and to look first would cost each visitor who wakes it some milliseconds.
        if (process.State == DroidStates.Paused && await containers.TryUnpauseAsync(id, cancel))
            return (true, null);
        if (process.State is DroidStates.Snoozed or DroidStates.Stopped && await containers.TryStartAsync(id, cancel))
            return Started();
        var before = await containers.InspectAsync(id, cancel);
        if (before.Paused)
            await containers.UnpauseAsync(id, cancel);
        if (before.Running)
            return (before.Paused, before.Restarts);
        await containers.StartAsync(id, cancel);
        return Started();

        // A start by command counts Docker's restarts from 0 again.
        (bool, long?) Started()
        {
            if (id == Live?.Id)
                Starts++;
            return (false, 0);
        }
    }

    private async Task<(DroidProcess Process, string? Fault)> ReadyAsync(DroidProcess web, DroidPolicy policy, long? crashes, CancellationToken late)
    {
        try
        {
            return (web, await Readiness.WaitAsync(web.Container.Address, policy, async () =>
            {
                var now = await containers.InspectAsync(web.Container.Id, late);
                crashes ??= now.Restarts;
                return now.Running && now.Restarts < crashes + 3 ? null
                    : now.OutOfMemory ? "ran out of memory right after its start" : $"exited with code {now.ExitCode} right after its start";
            }, late));
        }
        catch (OperationCanceledException) when (!lifetime.IsCancellationRequested)
        {
            return (web, NotYet);
        }
    }

    /// <summary>A worker that can't be started holds up no visitor.</summary>
    private async Task StartWorkerAsync(DroidProcess worker, CancellationToken cancel)
    {
        try
        {
            await ThawOrStartAsync(worker, cancel);
            if (worker.State is not DroidStates.Running)
                Note(worker.Name, DroidStates.Running, worker.Error);
        }
        catch (DockerApiException e)
        {
            Note(worker.Name, DroidStates.Crashed, $"can't be started: {DockerFault.Words(e)}");
        }
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
        return SentToSleep = await FallAsleepAsync(to, limit ?? BusyLimit, cancel);
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
        if (Live is null || (to != DroidStates.Stopped && State is not (DroidStates.Running or DroidStates.Paused)) || State == to)
            return State == to;
        var before = State!;
        // A request that the hook has just let through is not in flight until nginx has counted it.
        while (time.GetElapsedTime(lastHook) is var since && since < HookGrace)
            await Task.Delay(HookGrace - since, time, cancel);
        await TellDictAsync(to, cancel);
        var webs = processes.Where(p => p.IsWeb).Select(p => p.Container.Address).ToList();
        var drained = await Task.WhenAll(webs.Select(a => DrainAsync(a, limit, to == DroidStates.Stopped ? limit : Courtesy, cancel)));
        if (drained.Contains(false) && to != DroidStates.Stopped)
        {
            await TellDictAsync(before, cancel);
            return false;
        }
        var tired = processes.Where(p => p.IsWeb || to == DroidStates.Stopped || Spec!.Policy.SnoozeWorkers).ToList();
        await Task.WhenAll(tired.Select(p => PutToSleepAsync(p.Container.Id, to, cancel)));
        foreach (var process in tired)
            Note(process.Name, to, null);
        await BecomeAsync(to, null, cancel);
        return true;
    }

    private async Task PutToSleepAsync(string id, string to, CancellationToken cancel)
    {
        if (to == DroidStates.Paused)
        {
            try
            {
                await containers.PauseAsync(id, cancel);
                return;
            }
            catch (DockerApiException e) when (e.StatusCode == HttpStatusCode.Conflict)
            {
                // It has just crashed, or is frozen already.
                if ((await containers.InspectAsync(id, cancel)) is { Paused: true })
                    return;
            }
        }
        await containers.StopAsync(id, cancel);
    }

    /// <summary>Waits until nginx has no request in flight to <paramref name="address"/>; false if it still has at the end, or can't be asked.</summary>
    public Task<bool> DrainAsync(string address, TimeSpan limit, CancellationToken cancel) => DrainAsync(address, limit, limit, cancel);

    /// <param name="address"><c>ip:port</c>.</param>
    /// <param name="limit">The longest wait.</param>
    /// <param name="courtesy">The longest wait while visitors stand in the hook.</param>
    /// <param name="cancel">Ends the wait.</param>
    private async Task<bool> DrainAsync(string address, TimeSpan limit, TimeSpan courtesy, CancellationToken cancel)
    {
        var start = time.GetTimestamp();
        while (true)
        {
            if (await dict.ActivityAsync(cancel) is { } activity && activity.Peers.GetValueOrDefault(address) == 0)
                return true;
            if (time.GetElapsedTime(start) is var waited && (waited >= limit || (waited >= courtesy && waking is not null)))
                return false;
            await Task.Delay(TimeSpan.FromMilliseconds(20), time, cancel);
        }
    }

    /// <summary>Lets the release <paramref name="next"/>, which is ready, serve from now on; the one before is returned for its drain.</summary>
    /// <param name="next">Its containers.</param>
    /// <param name="asleep">Whether it was not started: then the next visit does that.</param>
    /// <param name="cancel">Ends the wait for what else is done with the droid.</param>
    public async Task<IReadOnlyList<DroidContainer>> SwitchAsync(IReadOnlyList<DroidContainer> next, bool asleep, CancellationToken cancel)
    {
        using var held = await HoldAsync(cancel);
        // From here on to the end, or a half-done switch would leave the container that serves with a name that means "remove me".
        cancel = CancellationToken.None;
        await Task.WhenAll(next.Select(c => containers.KeepUpAsync(c.Id, cancel)));
        var old = processes.Select(p => p.Container).ToList();
        if (old.FindIndex(c => c.Name == uid) is var at and >= 0)
        {
            // One that still drains after the switch before this one has its name moved out of the way, and its time to the end.
            await containers.RenameAsync(old[at].Id, uid + ".old", cancel);
            old[at] = old[at] with { Name = uid + ".old" };
            Replace(old[at].Id, old[at]);
        }
        // The one step by which all of the release serve: after a droidd that was killed, those go with it that are of its release.
        var first = next.First(c => c.Name == uid + ".next");
        await containers.RenameAsync(first.Id, uid, cancel);
        var (now, stamp) = (time.GetUtcNow(), time.GetTimestamp());
        var state = asleep ? DroidStates.Snoozed : DroidStates.Running;
        processes = InOrder(next.Select(c => new DroidProcess(c.Id == first.Id ? c with { Name = uid } : c, state, now, stamp)));
        (Starts, failures, evictions, ranOutOfMemory) = (asleep ? 0 : 1, 0, 0, null);
        Activate();
        await BecomeAsync(state, null, cancel);
        return old;
    }

    /// <summary>Takes one more container into the release that serves: one that is ready, or one that sleeps with the others.</summary>
    /// <returns>False if the release serves no more.</returns>
    public async Task<bool> JoinAsync(DroidContainer made, bool ready, CancellationToken cancel)
    {
        using var held = await HoldAsync(cancel);
        if (Live?.Release != made.Release)
            return false;
        await containers.KeepUpAsync(made.Id, CancellationToken.None);
        var awake = IsToBeAwake(made.IsWeb);
        // The others may have gone to sleep while it started.
        if (ready && !awake)
            await PutToSleepAsync(made.Id, State == DroidStates.Paused ? DroidStates.Paused : DroidStates.Snoozed, cancel);
        var state = ready && awake ? DroidStates.Running : State is DroidStates.Running or DroidStates.Crashed ? DroidStates.Snoozed : State!;
        processes = InOrder(processes.Append(new DroidProcess(made, state, time.GetUtcNow(), time.GetTimestamp())));
        await BecomeAsync(State!, Error, cancel);
        return true;
    }

    /// <summary>Takes a process out of the release that serves: no request goes there from now on. Its container is left to be drained.</summary>
    public async Task LeaveAsync(DroidProcess process, CancellationToken cancel)
    {
        using var held = await HoldAsync(cancel);
        processes = [.. processes.Where(p => p.Container.Id != process.Container.Id)];
        await BecomeAsync(State == DroidStates.Running && !HasOpenWeb() ? DroidStates.Crashed : State!, Error, cancel);
    }

    /// <summary>Whether a process of its kind should run now.</summary>
    public bool IsToBeAwake(bool web) => State == DroidStates.Running
        || (!web && State is DroidStates.Paused or DroidStates.Snoozed or DroidStates.Crashed && Spec?.Policy.SnoozeWorkers == false);

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
        if (Live is null)
            return;
        await TellDictAsync(DroidStates.Snoozed, cancel);
        await Task.WhenAll(processes.Select(async p =>
        {
            if (p.IsWeb)
                await DrainAsync(p.Container.Address, BusyLimit, cancel);
            await containers.StopAsync(p.Container.Id, cancel);
            Note(p.Name, DroidStates.Snoozed, null);
        }));
        // Where Docker ends here, the next visit starts it.
        await BecomeAsync(DroidStates.Snoozed, null, cancel);
        await StartAsync(cancel);
    }

    /// <summary>Does something while the droid's containers do nothing; visitors who come meanwhile wait.</summary>
    /// <param name="freeze">Whether they are frozen for it, or else stopped and started again.</param>
    /// <param name="work">What to do.</param>
    /// <param name="cancel">Ends the wait for what else is done with the droid.</param>
    public async Task AtRestAsync(bool freeze, Func<Task> work, CancellationToken cancel)
    {
        using var held = await HoldAsync(cancel);
        var awake = Live is not null && State is DroidStates.Running or DroidStates.Crashed;
        var before = State;
        var (frozen, stopped) = (new List<string>(), new List<string>());
        if (awake)
            await TellDictAsync(freeze ? DroidStates.Paused : DroidStates.Snoozed, cancel);
        try
        {
            // Workers may run while the web sleeps.
            foreach (var process in processes)
            {
                if (await containers.InspectAsync(process.Container.Id, cancel) is not { Running: true } seen)
                    continue;
                if (!freeze)
                {
                    await containers.StopAsync(process.Container.Id, cancel);
                    Note(process.Name, DroidStates.Snoozed, null);
                    stopped.Add(process.Name);
                }
                else if (seen is { Paused: false, Restarting: false })
                {
                    await containers.PauseAsync(process.Container.Id, cancel);
                    frozen.Add(process.Container.Id);
                }
            }
            await work();
        }
        finally
        {
            foreach (var id in frozen)
                await containers.TryUnpauseAsync(id, CancellationToken.None);
            if (!freeze && before == DroidStates.Paused)
                await BecomeAsync(DroidStates.Snoozed, null, CancellationToken.None);
            if (awake && freeze)
                await BecomeAsync(before!, Error, CancellationToken.None);
            else if (awake)
                await StartAsync(lifetime.Token);
            else
                await Task.WhenAll(processes.Where(p => !p.IsWeb && stopped.Contains(p.Name)).Select(p => StartWorkerAsync(p, lifetime.Token)));
            if (awake)
                Activate();
        }
    }

    /// <summary>Gives up a start that is under way: the droid is about to be deleted.</summary>
    public Task EndAsync() => lifetime.CancelAsync();

    /// <summary>Forgets the containers, which are gone from Docker or about to be removed.</summary>
    public async Task ForgetAsync(CancellationToken cancel)
    {
        using var held = await HoldAsync(cancel);
        await ForgetHeldAsync(cancel);
    }

    private async Task ForgetHeldAsync(CancellationToken cancel)
    {
        (processes, State) = ([], null);
        await dict.DeleteAsync(uid, cancel);
    }

    /// <summary>Adds a line of the platform's own to the app's log.</summary>
    public void Tell(string text) => folder.AddEvent(time.GetUtcNow(), text);

    private static IReadOnlyList<DroidProcess> InOrder(IEnumerable<DroidProcess> all) =>
        [.. all.OrderBy(p => !p.IsWeb).ThenBy(p => p.Container.Type.Type, StringComparer.Ordinal).ThenBy(p => p.Container.Number)];

    /// <summary>What a process is called in the app's log.</summary>
    private string Who(DroidProcess process) => processes.Count == 1 ? "the app" : process.Name;

    private bool HasOpenWeb(DroidProcess? but = null) => processes.Any(p => p.IsWeb && p.State == DroidStates.Running && p.Name != but?.Name);

    /// <summary>Changes what is known of one process; several may come to it at the same time.</summary>
    private void Note(string name, string state, string? error, int? restarts = null)
    {
        lock (wakeLock)
        {
            processes = [.. processes.Select(p => p.Name != name ? p
                : p.State == state && restarts is null ? p with { Error = error }
                : p with { State = state, Error = error, Restarts = restarts ?? p.Restarts, Since = time.GetUtcNow(), Stamp = time.GetTimestamp() })];
        }
    }

    private void Replace(string id, DroidContainer by) =>
        processes = [.. processes.Select(p => p.Container.Id == id ? p with { Container = by } : p)];

    private void Activate() => (ActiveSince, ActiveStamp, SentToSleep) = (time.GetUtcNow(), time.GetTimestamp(), false);

    private async Task BecomeAsync(string state, string? error, CancellationToken cancel)
    {
        if (State is not null && State != state)
            LogBecame(log, uid, State, state);
        (State, Error) = (state, error);
        await TellDictAsync(state, cancel);
    }

    /// <summary>Tells nginx the state, and where the web processes are: those that take requests, where the state is that they do.</summary>
    private Task TellDictAsync(string state, CancellationToken cancel) => dict.PutAsync(uid, state, string.Join(',',
        processes.Where(p => p.IsWeb && (state != DroidStates.Running || p.State == DroidStates.Running)).Select(p => p.Container.Address)), cancel);

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
