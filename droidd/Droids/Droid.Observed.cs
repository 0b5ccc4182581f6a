using System.Collections.Concurrent;
using System.Net;
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
    private DateTimeOffset? ranOutOfMemory;

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
        Tell($"{Who(process)} {why}; it is started again");
        Note(process.Name, DroidStates.Crashed, why, restarts: process.Restarts + 1);
        if (process.IsWeb && State == DroidStates.Running)
            await BecomeAsync(HasOpenWeb() ? DroidStates.Running : DroidStates.Crashed, HasOpenWeb() ? null : $"the app {why}", cancel);
    }

    /// <summary>Takes note of what Docker did on its own: a crash, a revival, a stop by hand.</summary>
    /// <param name="before">The processes before Docker was asked: what is newer can't be in its list.</param>
    /// <param name="found">Docker's list, by id.</param>
    /// <param name="cancel">Ends it.</param>
    /// <returns>Whether a container is gone, so that the droid lacks a process, or all of it.</returns>
    public async Task<bool> ObserveAsync(
        IReadOnlyList<DroidProcess> before, IReadOnlyDictionary<string, DroidContainer> found, CancellationToken cancel)
    {
        // A transition in progress knows better than a list made before it.
        if (!await gate.WaitAsync(0, cancel))
            return false;
        try
        {
            var mine = processes.Where(p => before.Any(b => b.Container.Id == p.Container.Id)).ToList();
            foreach (var process in mine.Where(p => found.ContainsKey(p.Container.Id)))
                await ObserveAsync(process, found[process.Container.Id].State, cancel);
            var gone = mine.Where(p => !found.ContainsKey(p.Container.Id)).ToList();
            if (gone.Count == 0)
                return false;
            foreach (var process in gone)
                Tell(processes.Count == 1 ? "the container was removed from outside; the app is deployed anew"
                    : $"{process.Name}'s container was removed from outside; it is made anew");
            var left = processes.Except(gone).ToList();
            if (!left.Exists(p => p.IsWeb))
            {
                // What else is left of the release goes when the next one serves.
                await ForgetHeldAsync(cancel);
                await Task.WhenAll(left.Select(p => containers.RemoveAsync(p.Container.Id, cancel)));
                return true;
            }
            processes = left;
            await BecomeAsync(State == DroidStates.Running && !HasOpenWeb() ? DroidStates.Crashed : State!, Error, cancel);
            return true;
        }
        finally
        {
            gate.Release();
        }
    }

    /// <param name="process">One of the processes.</param>
    /// <param name="seen">Docker's word for its state.</param>
    /// <param name="cancel">Ends it.</param>
    private async Task ObserveAsync(DroidProcess process, string seen, CancellationToken cancel)
    {
        var up = process.State is DroidStates.Running or DroidStates.Starting;
        if (seen == "restarting")
        {
            if (!up)
                return;
            var now = await containers.InspectAsync(process.Container.Id, cancel);
            var why = now.OutOfMemory ? "ran out of memory" : $"exited with code {now.ExitCode}";
            Tell($"{Who(process)} {why}; it is started again");
            Note(process.Name, DroidStates.Crashed, why, restarts: process.Restarts + 1);
            if (process.IsWeb && State == DroidStates.Running)
                await BecomeAsync(HasOpenWeb() ? DroidStates.Running : DroidStates.Crashed, HasOpenWeb() ? null : $"the app {why}", cancel);
        }
        else if (seen == "running")
        {
            if (process.IsWeb ? process.State is DroidStates.Crashed or DroidStates.Snoozed or DroidStates.Starting
                    && await Readiness.IsReadyAsync(process.Container.Address, Spec!.Policy, cancel)
                : process.State is not DroidStates.Running && time.GetUtcNow() - process.Since > Readiness.StaysUp)
            {
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
            if (up && seen != "created")
                Tell($"{(processes.Count == 1 ? "the container" : process.Name)} was {(seen == "paused" ? "paused" : "stopped")} from outside; "
                    + (process.IsWeb && !HasOpenWeb(but: process) ? "the next visit starts it" : "it is started again"));
            if (process.IsWeb && !HasOpenWeb(but: process))
            {
                var to = seen == "paused" ? DroidStates.Paused : DroidStates.Snoozed;
                Note(process.Name, to, null);
                await BecomeAsync(to, null, cancel);
                return;
            }
            await ThawOrStartAsync(process, cancel);
            Note(process.Name, process.IsWeb ? DroidStates.Starting : DroidStates.Running, process.Error);
            if (process.IsWeb)
                await BecomeAsync(State!, Error, cancel);
        }
    }

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
    public bool Agrees(DroidContainer seen) => processes.FirstOrDefault(p => p.Container.Id == seen.Id)?.State switch
    {
        null => true,
        DroidStates.Running => seen.State == "running",
        DroidStates.Paused => seen.State == "paused",
        _ => seen.State is not ("running" or "paused" or "restarting"),
    };

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
        var now = time.GetUtcNow();
        if (ranOutOfMemory is not { } last || now - last > MemoryNoteInterval)
            Tell($"the app ran out of memory: it may use {Quantities.FormatBytes(Live?.Spec.Limits.MemoryBytes ?? 0)} (appoxy settings NAME memory=…)");
        ranOutOfMemory = now;
    }

    /// <summary>What its owner should know although it runs; null if nothing.</summary>
    public string? Trouble => ranOutOfMemory is { } at && time.GetUtcNow() - at < TroubleShown
        ? $"it ran out of memory at {at.UtcDateTime:HH:mm:ss} UTC" : null;
}
