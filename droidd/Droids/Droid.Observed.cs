using System.Collections.Concurrent;
using System.Net;
using Appoxy.Droidd.Builds;
using Docker.DotNet;

namespace Appoxy.Droidd.Droids;

/// <summary>What befalls a droid without its being told to: exits, what others do to its containers, memory and disks that are full.</summary>
internal sealed partial class Droid
{
    private static readonly TimeSpan LongestEviction = TimeSpan.FromMinutes(10);
    private static readonly TimeSpan MemoryNoteInterval = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan TroubleShown = TimeSpan.FromMinutes(10);

    private static readonly TimeSpan EvictionsForgotten = TimeSpan.FromHours(1);

    private int evictions;
    private long lastEviction;

    /// <summary>Until when a process that was ended for what it did is not started again, beside others that go on; by its name.</summary>
    private readonly ConcurrentDictionary<string, long> resting = new();
    private (DateTimeOffset At, long Stamp)? ranOutOfMemory;
    private string? replacedFor;

    /// <summary>What was done to a container by hand that only others in their place put right; null if nothing.</summary>
    public string? ToBeReplaced { get; set; }

    /// <summary>Takes note that a process ended without having been told to; Docker starts it again.</summary>
    /// <param name="id">Its container.</param>
    /// <param name="code">What it exited with.</param>
    /// <param name="outOfMemory">Whether the kernel killed it for its memory limit.</param>
    /// <param name="cancel">Ends the wait for a transition that is under way.</param>
    public async Task ExitedAsync(string id, int code, bool outOfMemory, CancellationToken cancel)
    {
        using var held = await HoldAsync(cancel);
        // What was put to sleep or replaced has ended because of that, and what was started since by command has no restarts. One that
        // "docker stop" has ended is started again by nobody: the next look puts it right.
        if (processes.FirstOrDefault(p => p.Container.Id == id) is not { State: DroidStates.Running or DroidStates.Starting or DroidStates.Crashed } process
            || await FindStateAsync(id, cancel) is not { Running: true, Restarts: > 0 } now)
            return;
        var why = outOfMemory || now.OutOfMemory ? "ran out of memory" : $"exited with code {code}";
        DroidMetrics.Exited(Spec?.App, outOfMemory || now.OutOfMemory);
        Tell($"{Who(process)} {why}; it is started again");
        Note(process.Name, DroidStates.Crashed, why, restarts: process.Restarts + 1);
        if (process.IsWeb && State == DroidStates.Running)
            await BecomeAsync(HasOpenWeb() ? DroidStates.Running : DroidStates.Crashed, HasOpenWeb() ? null : $"the app {why}", cancel);
    }

    /// <summary>
    /// Takes note of what Docker did on its own, as a crash or a revival, and undoes what somebody did by hand: containers that were stopped,
    /// frozen, started, removed, renamed, limited or connected otherwise.
    /// </summary>
    /// <param name="before">The processes before Docker was asked: what is newer can't be in its list.</param>
    /// <param name="found">Docker's list, by id.</param>
    /// <param name="closely">Whether to look also at what that list does not tell: limits and restart policies.</param>
    /// <param name="cancel">Ends it.</param>
    /// <returns>Whether the reconciler has something to do.</returns>
    public async Task<bool> ObserveAsync(
        IReadOnlyList<DroidProcess> before, IReadOnlyDictionary<string, DroidContainer> found, bool closely, CancellationToken cancel)
    {
        // A transition in progress knows better than a list made before it; but a start would wait in vain for what can't be reached.
        if (!await gate.WaitAsync(0, cancel))
        {
            foreach (var process in before.Where(p => found.TryGetValue(p.Container.Id, out var seen) && !seen.IsConnected))
                await ReconnectAsync(process, cancel);
            return false;
        }
        try
        {
            var kick = false;
            foreach (var id in processes.Select(p => p.Container.Id).Where(id => before.Any(b => b.Container.Id == id)).ToList())
            {
                // Those before it may have changed it, or all of them.
                if (processes.FirstOrDefault(p => p.Container.Id == id) is not { } process)
                    continue;
                if (!found.TryGetValue(id, out var seen))
                    kick |= await FindStateAsync(id, cancel) is null && await MakeUpForAsync(process, "was removed from outside", cancel);
                else if (!seen.IsConnected && !await ReconnectAsync(process, cancel))
                    kick |= await MakeUpForAsync(process, "can't be connected to its network again", cancel);
                else
                {
                    if (closely || seen.Name != process.Container.Name)
                        kick |= await ResetAsync(process, cancel);
                    await ObserveAsync(process, seen.State, cancel);
                }
            }
            return kick;
        }
        finally
        {
            gate.Release();
        }
    }

    /// <summary>Notes what somebody did to a process by hand, and what became of it.</summary>
    private void Found(DroidProcess process, string what)
    {
        var line = $"{(processes.Count == 1 ? "the container" : process.Name + "'s container")} {what}";
        LogFound(log, uid, line);
        DroidMetrics.Repaired();
        Tell(line);
    }

    /// <summary>Has a process at its address on its network again; false if it can't be had there.</summary>
    private async Task<bool> ReconnectAsync(DroidProcess process, CancellationToken cancel)
    {
        try
        {
            foreach (var done in await containers.ReconnectAsync(process.Container, cancel))
                Found(process, done);
            return true;
        }
        catch (DockerApiException e)
        {
            LogLeft(log, uid, process.Name, DockerFault.Words(e));
            return false;
        }
    }

    private async Task<bool> ResetAsync(DroidProcess process, CancellationToken cancel)
    {
        var (done, left) = await containers.ResetAsync(process.Container, cancel);
        foreach (var one in done)
            Found(process, one);
        // What is there again after it was replaced, Docker does by itself.
        if (left is null || left == replacedFor)
            return false;
        replacedFor = ToBeReplaced = left;
        Found(process, $"{left}; it is replaced");
        return true;
    }

    /// <summary>Makes a process's container anew in its place.</summary>
    /// <returns>True where that is for the reconciler to do, since the image is gone too.</returns>
    private async Task<bool> MakeUpForAsync(DroidProcess process, string what, CancellationToken cancel)
    {
        if (!await containers.HasImageAsync(process.Container.ImageId, cancel))
        {
            Found(process, $"{what}, as was its image; the app is deployed anew");
            // What else is left of the release goes when the next one serves.
            var left = processes.Where(p => p.Name != process.Name).ToList();
            await ForgetHeldAsync(cancel);
            await Task.WhenAll(left.Select(p => containers.RemoveAsync(p.Container.Id, cancel)));
            return true;
        }
        var anew = await containers.RenewAsync(process.Container, CancellationToken.None);
        Found(process, $"{what}, and is made anew");
        Replace(process.Container.Id, anew);
        process = process with { Container = anew };
        if (process.State is DroidStates.Running or DroidStates.Starting)
            await ResumeAsync(process, DroidStates.Snoozed, cancel);
        else
            await SlumberAsync(process, cancel);
        return false;
    }

    /// <summary>Starts a process that is to be awake: beside others that serve at once, else as a visit would.</summary>
    private async Task ResumeAsync(DroidProcess process, string from, CancellationToken cancel)
    {
        if (process.IsWeb && !HasOpenWeb(but: process))
        {
            Note(process.Name, from, null);
            await BecomeAsync(from, null, cancel);
            // Not waited for: it needs the gate that is held here.
            _ = WakeAsync(failed: false);
            return;
        }
        await ThawOrStartAsync(process with { State = from }, cancel);
        Note(process.Name, process.IsWeb ? DroidStates.Starting : DroidStates.Running, process.Error);
        if (process.IsWeb)
            await BecomeAsync(State!, Error, cancel);
    }

    /// <summary>Takes note that a process that was frozen is stopped by now.</summary>
    private async Task SlumberAsync(DroidProcess process, CancellationToken cancel)
    {
        if (process.State != DroidStates.Paused || await FindStateAsync(process.Container.Id, cancel) is { Paused: true })
            return;
        Note(process.Name, DroidStates.Snoozed, null);
        if (State == DroidStates.Paused && !processes.Any(p => p.IsWeb && p.State == DroidStates.Paused))
            await BecomeAsync(DroidStates.Snoozed, null, cancel);
    }

    /// <param name="process">One of the processes.</param>
    /// <param name="seen">Docker's word for its state.</param>
    /// <param name="cancel">Ends it.</param>
    private async Task ObserveAsync(DroidProcess process, string seen, CancellationToken cancel)
    {
        var up = process.State is DroidStates.Running or DroidStates.Starting;
        if (seen == "restarting" && !IsToRest(process, seen))
        {
            if (!up)
                return;
            var now = await containers.InspectAsync(process.Container.Id, cancel);
            var why = now.OutOfMemory ? "ran out of memory" : $"exited with code {now.ExitCode}";
            DroidMetrics.Exited(Spec?.App, now.OutOfMemory);
            Tell($"{Who(process)} {why}; it is started again");
            Note(process.Name, DroidStates.Crashed, why, restarts: process.Restarts + 1);
            if (process.IsWeb && State == DroidStates.Running)
                await BecomeAsync(HasOpenWeb() ? DroidStates.Running : DroidStates.Crashed, HasOpenWeb() ? null : $"the app {why}", cancel);
        }
        else if (seen == "running" && !IsToRest(process, seen))
        {
            if (process.IsWeb ? process.State is DroidStates.Crashed or DroidStates.Snoozed or DroidStates.Starting or DroidStates.Paused
                    && await Readiness.IsReadyAsync(process.Container.Address, Spec!.Policy, cancel)
                : process.State is not DroidStates.Running && time.GetElapsedTime(process.Stamp) > Readiness.StaysUp)
            {
                if (process.State is DroidStates.Snoozed or DroidStates.Paused && State != DroidStates.Running)
                    Found(process, $"was {(process.State == DroidStates.Paused ? "thawed" : "started")} from outside; the app sleeps again when nobody visits it");
                Note(process.Name, DroidStates.Running, process.Error);
                if (!process.IsWeb)
                    return;
                if (State != DroidStates.Running)
                    Activate();
                await BecomeAsync(DroidStates.Running, null, cancel);
            }
        }
        else if (seen is "exited" or "dead" or "created" or "paused" && IsToBeAwake(process.IsWeb))
        {
            if (resting.TryGetValue(process.Name, out var until) && time.GetTimestamp() < until && (!process.IsWeb || HasOpenWeb(but: process)))
                return;
            resting.TryRemove(process.Name, out _);
            // The list may be older than a start that has ended since.
            if (await FindStateAsync(process.Container.Id, cancel) is { Running: true, Paused: false })
                return;
            if (up && seen != "created")
                Found(process, $"was {(seen == "paused" ? "paused" : "stopped")} from outside, and {(seen == "paused" ? "goes on" : "is started again")}");
            await ResumeAsync(process, seen == "paused" ? DroidStates.Paused : DroidStates.Snoozed, cancel);
        }
        else if (seen is "exited" or "dead")
            await SlumberAsync(process, cancel);
        else if (IsToRest(process, seen) && await FindStateAsync(process.Container.Id, cancel) is { Running: true })
        {
            await containers.StopAsync(process.Container.Id, cancel);
            Found(process, "was started from outside, and is stopped again");
            Note(process.Name, process.State, process.Error);
        }
    }

    /// <summary>Whether a process that somebody started is to be stopped again; one of a sleeping app's web is not, as nothing is lost by that.</summary>
    private bool IsToRest(DroidProcess process, string seen) => seen is "running" or "paused" or "restarting"
        && (process.State == DroidStates.Stopped
            || (process.State == DroidStates.Snoozed && (seen == "paused" || (!process.IsWeb && !IsToBeAwake(web: false)))));

    private async Task<ContainerState?> FindStateAsync(string id, CancellationToken cancel)
    {
        try
        {
            return await containers.InspectAsync(id, cancel);
        }
        catch (DockerApiException e) when (e.StatusCode == HttpStatusCode.NotFound)
        {
            return null;
        }
    }

    /// <summary>Whether a container is as this droid says; else one of them is about to change.</summary>
    public bool Agrees(DroidContainer seen) => processes.FirstOrDefault(p => p.Container.Id == seen.Id) is not { } process
        || (seen.IsConnected && seen.Name == process.Container.Name && process.State switch
    {
        DroidStates.Running => seen.State == "running",
        DroidStates.Paused => seen.State == "paused",
        _ => seen.State is not ("running" or "paused" or "restarting"),
    });

    /// <summary>Ends a container that does harm to others, such as filling the disk; it is started again later, and later each time.</summary>
    /// <param name="container">The container that was found to be at fault.</param>
    /// <param name="error">What it did, for its owner.</param>
    /// <param name="anew">Whether what it has written goes, with its log; volumes stay.</param>
    /// <param name="cancel">Ends the wait for what else is done with the droid.</param>
    public async Task EvictAsync(string container, string error, bool anew, CancellationToken cancel)
    {
        using var held = await HoldAsync(cancel);
        if (processes.FirstOrDefault(p => p.Container.Id == container) is not { } process)
            return;
        if (time.GetElapsedTime(lastEviction) > EvictionsForgotten)
            evictions = 0;
        lastEviction = time.GetTimestamp();
        var backOff = TimeSpan.FromSeconds(Math.Min(15 * Math.Pow(2, evictions++), LongestEviction.TotalSeconds));
        Note(process.Name, DroidStates.Crashed, error);
        // With another web process, or without any to do with it, the app goes on, and a later look starts this one.
        var ends = process.IsWeb && !HasOpenWeb();
        if (process.IsWeb)
            await TellDictAsync(ends ? DroidStates.Crashed : State!, cancel);
        var until = time.GetTimestamp() + (long)(backOff.TotalSeconds * time.TimestampFrequency);
        if (ends)
            retryAt = until;
        else
            resting[process.Name] = until;
        // Half of it would be a droid without a container.
        if (anew)
            Replace(container, await containers.RenewAsync(process.Container, CancellationToken.None));
        else
            await containers.KillAsync(container, CancellationToken.None);
        Tell($"{error}; {(processes.Count == 1 ? "it" : process.Name)} was ended, {(anew ? "what it had written outside of volumes is gone, " : "")}and "
            + (ends ? $"a visit after {backOff.TotalSeconds:0} s starts it again" : $"it is started again after {backOff.TotalSeconds:0} s"));
        if (ends)
            await BecomeAsync(DroidStates.Crashed, error, CancellationToken.None);
    }

    /// <summary>Takes note that the kernel ended a process of the droid for its memory limit; the app itself may live on.</summary>
    public void NoteOutOfMemory()
    {
        if (ranOutOfMemory is not { } last || time.GetElapsedTime(last.Stamp) > MemoryNoteInterval)
            Tell($"the app ran out of memory: it may use {Quantities.FormatBytes(Live?.Spec.Limits.MemoryBytes ?? 0)} (appoxy settings NAME memory=…)");
        ranOutOfMemory = (time.GetUtcNow(), time.GetTimestamp());
    }

    /// <summary>What its owner should know although it runs; null if nothing.</summary>
    public string? Trouble => ranOutOfMemory is { } last && time.GetElapsedTime(last.Stamp) < TroubleShown
        ? $"it ran out of memory at {last.At.UtcDateTime:HH:mm:ss} UTC" : null;

    [LoggerMessage(Level = LogLevel.Information, Message = "Droid {Uid}: {Found}")]
    private static partial void LogFound(ILogger log, string uid, string found);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Droid {Uid}: {Process} can't be connected to its network: {Fault}")]
    private static partial void LogLeft(ILogger log, string uid, string process, string fault);
}
