using System.Collections.Concurrent;
using System.Net;
using Appoxy.Droidd.Builds;
using Appoxy.Droidd.Images;
using Appoxy.Droidd.Isolation;
using Appoxy.Droidd.LocalNginx;
using Appoxy.Droidd.Volumes;
using Docker.DotNet;

namespace Appoxy.Droidd.Droids;

/// <summary>All droids of this server. At start it learns them from Docker; then it watches what Docker does without being told.</summary>
internal sealed partial class DroidServer(
    DroidContainers containers, DroidDict dict, DroidImages images, PackBuild packs, DroidVolumes volumes, DeployTools tools, DroiddSettings settings,
    DockerEvents events, ILogger<DroidServer> log, TimeProvider time) : BackgroundService
{
    /// <summary>So long without a request, and no proxy sends any more.</summary>
    private static readonly TimeSpan Quiet = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan WatchInterval = TimeSpan.FromSeconds(2);

    /// <summary>How long networks and what closes them may be gone, where Docker says nothing of it.</summary>
    private static readonly TimeSpan NetworkInterval = TimeSpan.FromSeconds(10);

    /// <summary>Between two looks at all containers; what Docker tells is looked at sooner.</summary>
    private static readonly TimeSpan WholeInterval = TimeSpan.FromSeconds(30);

    /// <summary>More than these are looked at in one list of all.</summary>
    private const int FewContainers = 20;

    private readonly ConcurrentDictionary<string, Entry> droids = new();
    private readonly SemaphoreSlim[] changeGates = [.. Enumerable.Range(0, 256).Select(_ => new SemaphoreSlim(1, 1))];
    private readonly TaskCompletionSource recovered = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private CancellationToken stopping;

    private sealed record Entry(Droid Droid, Reconciler Reconciler, CancellationTokenSource Stop)
    {
        public Task Running { get; set; } = Task.CompletedTask;
    }

    public IEnumerable<Droid> Droids => droids.Values.Select(e => e.Droid);

    /// <summary>Waits until the droids are known after a start; bounded.</summary>
    public Task ReadyAsync(CancellationToken cancel) => recovered.Task.WaitAsync(TimeSpan.FromSeconds(60), time, cancel);

    public Droid? Find(string uid) => droids.GetValueOrDefault(uid)?.Droid;

    /// <summary>Accepts a whole spec; the same one again changes nothing.</summary>
    /// <exception cref="Problem">409: it is older than what is here.</exception>
    public async Task<DroidStatus> PutAsync(DroidSpec spec, CancellationToken cancel)
    {
        var gate = GateOf(spec.Uid);
        await gate.WaitAsync(cancel);
        try
        {
            if (Find(spec.Uid)?.Spec is { } has && has.Generation > spec.Generation)
                throw new Problem(409, $"Generation {spec.Generation} is older than {has.Generation}, which this server has.");
            new DroidFolder(settings.DataDir, spec.Uid).WriteSpec(spec);
            var entry = droids.GetValueOrDefault(spec.Uid) ?? Add(spec.Uid, spec);
            entry.Droid.Spec = spec;
            entry.Reconciler.Kick();
            return Status(entry);
        }
        finally
        {
            gate.Release();
        }
    }

    /// <summary>
    /// Lets a droid that serves elsewhere by now end its requests, and those that still come from proxies that have not heard; then stops
    /// it. Bounded by the drain time-out, twice.
    /// </summary>
    public async Task DrainAsync(string uid, long? generation, CancellationToken cancel)
    {
        Require(uid, generation);
        var began = time.GetTimestamp();
        while (Find(uid) is { Live: not null } droid && time.GetElapsedTime(began) < settings.DrainTime
            && await dict.ActivityAsync(cancel) is { } activity
            && (droid.InFlight(activity) > 0 || (activity.Droids.TryGetValue(uid, out var last) && activity.Now - last < Quiet.TotalMilliseconds)))
            await Task.Delay(TimeSpan.FromMilliseconds(200), time, cancel);
        if (Find(uid) is { Live: not null } left)
            await left.SleepAsync(DroidStates.Stopped, settings.DrainTime, cancel);
    }

    /// <exception cref="Problem">412: the droid is of a newer generation.</exception>
    private void Require(string uid, long? generation)
    {
        if (generation is { } most && Find(uid)?.Spec is { } has && has.Generation > most)
            throw new Problem(412, $"It is of generation {has.Generation} by now.");
    }

    /// <summary>Removes a droid with all that is its own; one that is not here is no fault.</summary>
    /// <param name="uid">The droid.</param>
    /// <param name="generation">Not one that is of a newer generation than this.</param>
    /// <param name="cancel">Ends the wait for what else is done with it.</param>
    public async Task DeleteAsync(string uid, long? generation, CancellationToken cancel)
    {
        var gate = GateOf(uid);
        await gate.WaitAsync(cancel);
        try
        {
            Require(uid, generation);
            var folder = new DroidFolder(settings.DataDir, uid);
            if (droids.TryGetValue(uid, out var entry))
            {
                await entry.Stop.CancelAsync();
                await entry.Droid.EndAsync();
                await entry.Running.WaitAsync(cancel);
                await entry.Droid.ForgetAsync(cancel);
            }
            // The spec goes first: were it last, a droidd that is killed between would deploy the app anew from it.
            folder.Delete();
            foreach (var container in (await containers.ListAsync(cancel)).Where(c => c.Spec.Uid == uid))
                await containers.RemoveAsync(container.Id, cancel);
            await volumes.DeleteAllAsync(uid, cancel);
            await images.DeleteAllAsync(uid, cancel);
            await packs.ForgetAsync(uid, cancel);
            droids.TryRemove(uid, out _);
        }
        finally
        {
            gate.Release();
        }
    }

    /// <summary>One change of a droid at a time; a slow one holds up few others.</summary>
    private SemaphoreSlim GateOf(string uid) => changeGates[(uint)string.GetHashCode(uid, StringComparison.Ordinal) % changeGates.Length];

    public bool Cancel(string uid, int deployment) => droids.GetValueOrDefault(uid)?.Reconciler.Cancel(deployment) ?? false;

    public IReadOnlyList<DroidStatus> List() => [.. droids.Values.OrderBy(e => e.Droid.Uid, StringComparer.Ordinal).Select(Status)];

    public DroidStatus? Status(string uid) => droids.TryGetValue(uid, out var entry) ? Status(entry) : null;

    /// <summary>The deployments of a droid whose image is here, newest first.</summary>
    public Task<IReadOnlyList<KeptImage>> KeptAsync(string uid, CancellationToken cancel) =>
        images.KeptAsync(uid, new DroidFolder(settings.DataDir, uid), cancel);

    /// <summary>Whether a deployment's log may still grow.</summary>
    public bool IsDeploying(string uid, int number) => droids.TryGetValue(uid, out var entry)
        && entry.Reconciler.Status(number) is { } status && !DeploymentStates.IsFinal(status.State);

    private bool IsBuilding(string uid) => droids.TryGetValue(uid, out var entry) && entry.Reconciler.Deployment is { } now && !DeploymentStates.IsFinal(now.State);

    /// <summary>Whether a deployment is wanted or under way, so that what lies in its folder may be of use.</summary>
    public bool IsBuilding(string uid, int number) => droids.TryGetValue(uid, out var entry)
        && ((entry.Reconciler.Deployment is { } now && now.Number == number && !DeploymentStates.IsFinal(now.State))
            || (entry.Droid.Spec?.Deployment == number && entry.Reconciler.Status(number) is { } wanted && !DeploymentStates.IsFinal(wanted.State)));

    /// <summary>What nginx last saw; kept by the idle watch.</summary>
    public Activity? LastActivity { get; set; }

    private DroidStatus Status(Entry entry)
    {
        var (droid, spec, live) = (entry.Droid, entry.Droid.Spec!, entry.Droid.Live);
        var deployment = entry.Reconciler.Status(spec.Deployment)!;
        var state = droid.State ?? (DeploymentStates.IsFinal(deployment.State) ? DroidStates.Failed : DroidStates.Building);
        return new DroidStatus
        {
            Uid = droid.Uid,
            App = spec.App,
            Generation = spec.Generation,
            State = state,
            Error = droid.Error ?? (live is null ? deployment.Error : droid.Trouble),
            Deployment = deployment,
            Live = live is null ? null
                : new LiveDroid(live.Spec.Deployment, live.Id, live.ImageId, live.Address, droid.ActiveSince, droid.Starts),
            Processes =
            [
                .. droid.Processes.Select(p => new ProcessStatus(
                    p.Name, p.State, p.Since, p.Error, p.Restarts, p.Container.Id, p.IsWeb ? p.Container.Address : null)),
                .. entry.Reconciler.Refused.Where(r => droid.Processes.All(p => p.Name != r.Key)).OrderBy(r => r.Key, StringComparer.Ordinal)
                    .Select(r => new ProcessStatus(r.Key, DroidStates.Failed, null, r.Value)),
            ],
            Types = live?.Types ?? [],
            LastRequestAt = LastActivity?.Droids.TryGetValue(droid.Uid, out var last) == true ? DateTimeOffset.FromUnixTimeMilliseconds(last) : null,
            WakesIn = state is DroidStates.Paused or DroidStates.Snoozed ? droid.WakeTimes.Expected(state == DroidStates.Paused) : null,
            InFlight = droid.InFlight(LastActivity),
        };
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        stopping = stoppingToken;
        while (!recovered.Task.IsCompleted)
        {
            try
            {
                await containers.EnsureNetworksAsync(anew: true, stoppingToken);
                await RecoverAsync(stoppingToken);
                recovered.SetResult();
                LogRecovered(log, droids.Count);
            }
            catch (Exception e) when (IsDockerFault(e, stoppingToken))
            {
                LogDockerAway(log, e.Message);
                await Task.Delay(WatchInterval, time, stoppingToken);
            }
        }
        _ = events.FollowAsync(stoppingToken);
        // Docker may be another one, or started anew, whenever it can be listened to again.
        var (whole, anew, closely, unsettled) = (false, false, false, new HashSet<string>());
        for (var (looked, ensured) = (time.GetTimestamp(), time.GetTimestamp()); ; )
        {
            var wait = unsettled.Count > 0 || whole ? WatchInterval : NetworkInterval - time.GetElapsedTime(ensured);
            var touched = await events.NextAsync(wait > TimeSpan.Zero ? wait : TimeSpan.Zero, stoppingToken);
            try
            {
                unsettled.UnionWith(touched.Containers);
                whole |= touched.All || unsettled.Count > FewContainers || time.GetElapsedTime(looked) >= WholeInterval;
                if (whole)
                    looked = time.GetTimestamp();
                anew |= touched.All;
                closely |= touched.All || touched.Containers.Count > 0;
                if (anew || time.GetElapsedTime(ensured) >= NetworkInterval)
                {
                    ensured = time.GetTimestamp();
                    await containers.EnsureNetworksAsync(anew, stoppingToken);
                    anew = false;
                }
                unsettled = await WatchAsync(whole ? null : unsettled, closely, stoppingToken);
                (whole, closely) = (false, false);
            }
            catch (Exception e) when (IsDockerFault(e, stoppingToken))
            {
                LogDockerAway(log, e.Message);
            }
        }
    }

    private static bool IsDockerFault(Exception e, CancellationToken stop) =>
        !stop.IsCancellationRequested && e is DockerApiException or HttpRequestException or TimeoutException or IOException or OperationCanceledException;

    /// <summary>
    /// Learns all droids from Docker and from the specs on disk. <c>uid</c> is what serves, with all of its release; <c>uid.next</c> was not
    /// ready yet, unless droidd ended between the two renames of a switch; <c>uid.old</c> was draining.
    /// </summary>
    private async Task RecoverAsync(CancellationToken cancel)
    {
        Directory.CreateDirectory(settings.DataDir);
        var found = (await containers.ListAsync(cancel)).ToLookup(c => c.Spec.Uid);
        var onDisk = Directory.EnumerateDirectories(settings.DataDir).Select(d => Path.GetFileName(d)).Where(Names.IsUid);
        foreach (var uid in found.Select(g => g.Key).Union(onDisk!))
        {
            var mine = found[uid].ToDictionary(c => c.Name);
            var live = mine.GetValueOrDefault(uid);
            if (live is null && mine.ContainsKey(uid + ".old") && mine.TryGetValue(uid + ".next", out var next))
                live = next;
            live ??= mine.GetValueOrDefault(uid + ".old") ?? await RenamedAsync(uid, mine.Values, cancel);
            if (live is not null && live.Name != uid)
            {
                await containers.RenameAsync(live.Id, uid, cancel);
                LogFound(log, uid, $"{live.Name} is what serves, and has its name again");
            }
            // One of each process: somebody may have made a second one by hand.
            var serving = mine.Values.Where(c => live is not null && c.Release == live.Release && c.Type.Type != ProcessType.Release)
                .GroupBy(c => c.Process).Select(same => same.FirstOrDefault(c => c.Id == live!.Id)
                    ?? same.FirstOrDefault(c => c.Name == DroidContainers.NameOf(uid, c.Release, c.Process)) ?? same.First())
                .Select(c => c.Id == live!.Id ? c with { Name = uid } : c).ToList();
            foreach (var left in mine.Values.Where(c => serving.All(s => s.Id != c.Id)))
                await containers.RemoveAsync(left.Id, cancel);
            foreach (var (at, lost) in serving.Index().Where(s => s.Item.Address.StartsWith(':')).ToList())
                serving[at] = await containers.RenewAsync(lost, cancel);
            foreach (var container in serving)
                containers.Hold(container);
            var folder = new DroidFolder(settings.DataDir, uid);
            foreach (var number in folder.Numbers())
                await packs.ClearAsync(folder.Deployment(number), cancel);
            var spec = folder.ReadSpec() ?? live?.Spec;
            if (spec is null)
                continue;
            var entry = Add(uid, spec);
            if (live is not null)
                await entry.Droid.RecoverAsync(serving, cancel);
            entry.Reconciler.Kick();
        }
    }

    /// <summary>What served, where somebody renamed it: Docker revives no copy that was made by hand, nor what was not ready yet.</summary>
    private async Task<DroidContainer?> RenamedAsync(string uid, IEnumerable<DroidContainer> mine, CancellationToken cancel)
    {
        foreach (var container in mine.Where(c => c is { IsWeb: true, Number: 1 } && !c.Name.StartsWith(uid + ".", StringComparison.Ordinal)))
        {
            if (await containers.IsKeptUpAsync(container.Id, cancel))
                return container;
        }
        return null;
    }

    private Entry Add(string uid, DroidSpec spec)
    {
        var droid = new Droid(uid, containers, dict, new DroidFolder(settings.DataDir, uid), log, time) { Spec = spec };
        var reconciler = new Reconciler(droid, tools);
        var stop = CancellationTokenSource.CreateLinkedTokenSource(stopping);
        var entry = new Entry(droid, reconciler, stop);
        droids[uid] = entry;
        entry.Running = Task.Run(() => reconciler.RunAsync(stop.Token), CancellationToken.None);
        return entry;
    }

    /// <summary>Compares droids with what Docker has.</summary>
    /// <param name="ids">The containers to look at; null for all.</param>
    /// <param name="closely">Whether to look also at what Docker's list does not tell.</param>
    /// <param name="cancel">Ends the look.</param>
    /// <returns>The containers that are on their way to what they should be, and want another look soon.</returns>
    private async Task<HashSet<string>> WatchAsync(IReadOnlyCollection<string>? ids, bool closely, CancellationToken cancel)
    {
        if (ids is { Count: 0 })
            return [];
        var before = droids.Values
            .Select(e => (Entry: e, Processes: (IReadOnlyList<DroidProcess>)[.. e.Droid.Processes.Where(p => ids?.Contains(p.Container.Id) != false)]))
            .Where(b => b.Processes.Count > 0).ToList();
        var unsettled = new HashSet<string>();
        var found = (await containers.ListAsync(cancel, ids)).ToDictionary(c => c.Id);
        foreach (var container in found.Values.Where(c => !containers.Holds(c)))
            await RemoveStrangerAsync(container, cancel);
        if (ids is null)
            await containers.RemoveBuildStepsAsync(IsBuilding, cancel);
        foreach (var (entry, processes) in before)
        {
            try
            {
                if (await entry.Droid.ObserveAsync(processes, found, closely, cancel))
                    entry.Reconciler.Kick();
                unsettled.UnionWith(processes.Where(p => found.TryGetValue(p.Container.Id, out var seen) && !entry.Droid.Agrees(seen)).Select(p => p.Container.Id));
            }
            catch (Exception e) when (e is DockerApiException or Problem or IsolationException)
            {
                // About this one alone; the others are looked at.
                LogDockerAway(log, e.Message);
                unsettled.UnionWith(processes.Select(p => p.Container.Id));
            }
        }
        return unsettled;
    }

    /// <summary>Removes a container with a droid's labels that is none of its own: made by hand, or left over where Docker failed.</summary>
    private async Task RemoveStrangerAsync(DroidContainer stranger, CancellationToken cancel)
    {
        try
        {
            // The list may be older than its removal.
            await containers.InspectAsync(stranger.Id, cancel);
            await containers.RemoveAsync(stranger.Id, cancel);
            DroidMetrics.Repaired();
            LogFound(log, stranger.Spec.Uid, $"the container {stranger.Name} has its labels and is none of its own; it is removed");
        }
        catch (DockerApiException e)
        {
            if (e.StatusCode != HttpStatusCode.NotFound)
                LogDockerAway(log, e.Message);
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "{Count} droids are known")]
    private static partial void LogRecovered(ILogger log, int count);

    [LoggerMessage(Level = LogLevel.Information, Message = "Droid {Uid}: {Found}")]
    private static partial void LogFound(ILogger log, string uid, string found);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Docker does not answer as it should: {Fault}")]
    private static partial void LogDockerAway(ILogger log, string fault);
}
