using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using System.Threading.Channels;
using Appoxy.Daemon;
using Appoxy.Droidd.Builds;
using Appoxy.Droidd.Images;
using Docker.DotNet;

namespace Appoxy.Droidd.Droids;

/// <summary>What a reconciler works with, the same for all droids of a server.</summary>
internal sealed record DeployTools(
    ImageBuild Build, ReleaseCommand Release, DroidImages Images, DroidContainers Containers, DroiddSettings Settings, TimeProvider Time, ILogger<Reconciler> Log);

/// <summary>
/// Brings one droid to its spec, one step at a time: a new deployment is fetched, built, started beside the old containers, checked, and
/// only then gets the visitors; a change of env or limits does the same from the image at hand; one of the formation adds or removes
/// containers of what serves.
/// </summary>
internal sealed partial class Reconciler(Droid droid, DeployTools tools)
{
    private static readonly TimeSpan RetryAfter = TimeSpan.FromSeconds(5);
    private const int RetireTries = 12;

    private readonly Channel<bool> kicks = Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });
    private readonly Lock deployLock = new();
    private CancellationTokenSource? deploying;
    private CancellationTokenSource? replacing;
    private long replacingGeneration;
    private long refusedGeneration;
    private Activity? span;
    private Activity? stage;
    private readonly List<Task> retiring = [];
    private readonly ConcurrentDictionary<string, string> refused = new();
    private long refusedFormation;

    /// <summary>The processes that the formation asks for and that could not be started, each with why: tried again at the next change.</summary>
    public IReadOnlyDictionary<string, string> Refused => refused;

    /// <summary>The deployment worked on last.</summary>
    public DeploymentStatus? Deployment { get; private set; }

    /// <summary>How far a deployment is; one that the spec asks for and that is not begun yet is queued.</summary>
    public DeploymentStatus? Status(int number)
    {
        lock (deployLock)
        {
            if (Deployment?.Number == number)
                return Deployment;
        }
        return droid.Folder.ReadStatus(number)
            ?? (droid.Spec?.Deployment == number ? new DeploymentStatus(number, DeploymentStates.Queued) : null);
    }

    /// <summary>Says that the spec may have changed.</summary>
    public void Kick()
    {
        lock (deployLock)
        {
            if (deploying is not null && droid.Spec is { } spec && Deployment is { } deployment && deployment.Number != spec.Deployment)
                deploying.Cancel();
            // What it would bring is out of date before it is there.
            if (replacing is not null && droid.Spec?.Generation != replacingGeneration)
                replacing.Cancel();
        }
        kicks.Writer.TryWrite(true);
    }

    /// <summary>Ends the deployment that runs as cancelled; false if none with that number does.</summary>
    public bool Cancel(int number)
    {
        lock (deployLock)
        {
            if (deploying is null || Deployment?.Number != number)
                return false;
            deploying.Cancel();
            return true;
        }
    }

    /// <summary>Works until <paramref name="stop"/>; a deployment that this interrupts is taken up again at the next start.</summary>
    public async Task RunAsync(CancellationToken stop)
    {
        Deployment = droid.Spec is { } spec ? droid.Folder.ReadStatus(spec.Deployment) : null;
        try
        {
            await foreach (var _ in kicks.Reader.ReadAllAsync(stop))
            {
                try
                {
                    await ReconcileAsync(stop);
                }
                catch (Exception e) when (e is not OperationCanceledException || !stop.IsCancellationRequested)
                {
                    LogFault(tools.Log, droid.Uid, e);
                    await Task.Delay(RetryAfter, tools.Time, stop);
                    Kick();
                }
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            // The server stops, or the droid is deleted.
        }
        await Task.WhenAll(retiring);
    }

    private async Task ReconcileAsync(CancellationToken stop)
    {
        if (droid.Spec is not { } spec)
            return;
        // What is in memory holds even where the disk was too full to take it.
        var known = Deployment?.Number == spec.Deployment ? Deployment : droid.Folder.ReadStatus(spec.Deployment);
        if (droid.Live?.Spec.Deployment != spec.Deployment
            && (known is null || !DeploymentStates.IsFinal(known.State) || (known.State == DeploymentStates.Live && droid.Live is null)))
            await DeployAsync(spec, stop);
        else if (droid.Live is { } live && refusedGeneration != spec.Generation && NeedsNewContainer(spec, live.Spec))
            await ReplaceAsync(spec, live, stop);
        else if (droid is { ToBeReplaced: not null, Live: { } meddled })
        {
            droid.ToBeReplaced = null;
            // As what serves was made: newer settings may have been refused.
            await ReplaceAsync(meddled.Spec with { Generation = spec.Generation, Formation = spec.Formation, Policy = spec.Policy }, meddled, stop);
        }
        if (droid.Live?.Spec.Deployment == spec.Deployment)
            await ScaleAsync(spec, stop);
        if (droid.Spec.Desired == DroidStates.Stopped && droid.Live is not null)
            await droid.SleepAsync(DroidStates.Stopped, tools.Settings.DrainTime, stop);
        else if (droid.State == DroidStates.Stopped)
            await droid.StartStoppedAsync(stop);
    }

    private static bool NeedsNewContainer(DroidSpec wanted, DroidSpec has) =>
        wanted.Deployment == has.Deployment && ((wanted.Port is not null && wanted.Port != has.Port) || wanted.Limits != has.Limits
        || !wanted.Volumes.SequenceEqual(has.Volumes)
        || wanted.Env.Count != has.Env.Count || wanted.Env.Except(has.Env).Any());

    private async Task DeployAsync(DroidSpec spec, CancellationToken stop)
    {
        using var cancelled = CancellationTokenSource.CreateLinkedTokenSource(stop);
        span = Telemetry.Begin("deployment", spec.Trace);
        span?.SetTag("appoxy.app", spec.App).SetTag("appoxy.deployment", spec.Deployment);
        using var log = new BuildLog(droid.Folder.Deployment(spec.Deployment));
        lock (deployLock)
        {
            deploying = cancelled;
            Deployment = new DeploymentStatus(spec.Deployment, DeploymentStates.Queued);
        }
        try
        {
            Become(DeploymentStates.Queued);
            var built = await tools.Build.RunAsync(spec, droid.Folder, log, Become, cancelled.Token);
            // Settings may have changed meanwhile; only the deployment's number is still that of its beginning.
            DroidSpec Newest() => droid.Spec is { } now && now.Deployment == spec.Deployment ? now : spec;
            var types = built.Types ?? BuiltImage.WebAlone;
            var scripts = spec.RollbackTo is null ? built.Scripts : null;
            async Task RunAsync(ProcessType type, string name)
            {
                log.Say($"-----> Running {name}");
                var made = await tools.Containers.WithPortAsync(Newest(), built.Image, cancelled.Token);
                await tools.Release.RunAsync(new NewContainer(made, built.Image, types, NewRelease(), type, 1), name, log, cancelled.Token);
            }
            var release = spec.RollbackTo is null ? types.FirstOrDefault(t => t.Type == ProcessType.Release) : null;
            if ((release is not null || scripts?.Before is not null) && !droid.Folder.IsReleased(spec.Deployment))
            {
                Become(DeploymentStates.Releasing);
                if (scripts?.Before is { } before)
                    await RunAsync(Script("predeploy", before, types), "the predeploy script");
                if (release is not null)
                    await RunAsync(release, "the release command");
                droid.Folder.WriteReleased(spec.Deployment);
            }
            var isFirst = droid.Live is null && droid.Folder.Numbers().All(n => droid.Folder.ReadStatus(n)?.State != DeploymentStates.Live);
            var old = await BringUpAsync(Newest(), built.Image, types, log, cancelled.Token);
            Retire(old, spec.Deployment, stop);
            // It serves already: what fails now is told, and changes nothing.
            foreach (var (script, name) in new[] { (scripts?.After, "the postdeploy script"), (isFirst ? scripts?.First : null, "the first deployment's postdeploy script") })
            {
                try
                {
                    if (script is not null)
                        await RunAsync(Script("postdeploy", script, types), name);
                }
                catch (BuildException e)
                {
                    log.Error($" !     {e.Message}; the new version serves all the same");
                    droid.Tell($"deployment {spec.Deployment}: {e.Message}");
                }
            }
            log.Say("-----> Live");
            droid.Tell($"deployment {spec.Deployment} is live");
            Become(DeploymentStates.Live);
        }
        catch (BuildException e)
        {
            Fail(e.Reason, e.Message, log);
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested && cancelled.IsCancellationRequested)
        {
            log.Error(" !     Cancelled");
            Become(DeploymentStates.Cancelled);
        }
        catch (Exception e) when (e is DockerApiException or HttpRequestException or TimeoutException or IOException or UnauthorizedAccessException)
        {
            LogFault(tools.Log, spec.Uid, e);
            var words = DockerFault.Words(e);
            if (DockerFault.IsDiskFull(words))
                Fail(FailureReasons.DiskFull, DockerFault.DiskIsFull, log);
            else
                Fail(FailureReasons.Server, $"this server failed at it: {words}", log);
        }
        finally
        {
            stage?.Dispose();
            span?.SetTag("appoxy.outcome", Deployment.State);
            if (Deployment.State == DeploymentStates.Failed)
                span?.SetStatus(ActivityStatusCode.Error, Deployment.Reason);
            span?.Dispose();
            lock (deployLock)
                deploying = null;
            if (!stop.IsCancellationRequested)
                droid.Folder.RemoveSource(spec.Deployment);
            droid.Folder.Prune(tools.Settings.KeptVersions + 1);
        }
    }

    private void Fail(string reason, string error, BuildLog log)
    {
        // First, as what follows writes to a disk that may be full.
        lock (deployLock)
            Deployment = Deployment! with { State = DeploymentStates.Failed, Error = error, Reason = reason, Ahead = null };
        // What it has fetched makes room for why it failed.
        if (reason == FailureReasons.DiskFull)
            droid.Folder.RemoveSource(Deployment.Number);
        log.Error($" !     {error}");
        droid.Tell($"deployment {Deployment.Number} failed: {error}");
        DroidFolder.IgnoreFull(() => droid.Folder.WriteStatus(Deployment));
    }

    /// <summary>How a script is run in an image: by the launcher that buildpacks put there, else by its shell.</summary>
    private static ProcessType Script(string name, string command, IReadOnlyList<ProcessType> types) =>
        new(name, command, types.Any(t => t.Entrypoint is not null) ? ProcessType.Launcher : null);

    private static string NewRelease() => RandomNumberGenerator.GetString("abcdefghijklmnopqrstuvwxyz234567", 8);

    /// <summary>The processes that a formation asks for, of the types that there are.</summary>
    private static IEnumerable<(ProcessType Type, int Number)> Wanted(IReadOnlyList<ProcessType> types, DroidSpec spec) =>
        types.SelectMany(t => Enumerable.Range(1, spec.Formation.CountOf(t.Type)).Select(n => (t, n)));

    /// <summary>Starts a release beside the one that serves, waits until all of it is ready and switches; the old one is returned.</summary>
    private async Task<IReadOnlyList<DroidContainer>> BringUpAsync(
        DroidSpec spec, string image, IReadOnlyList<ProcessType> types, BuildLog? log, CancellationToken cancel)
    {
        void Say(string line) => log?.Say(line);
        if (log is not null)
            Become(DeploymentStates.Starting);
        spec = await tools.Containers.WithPortAsync(spec, image, cancel);
        var wanted = Wanted(types, spec).ToList();
        Say(wanted.Count == 1 ? "-----> Starting" : $"-----> Starting {string.Join(", ", types.Select(t => (t.Type, Count: spec.Formation.CountOf(t.Type)))
            .Where(t => t.Count > 0).Select(t => $"{t.Type}={t.Count}"))}");
        var next = new List<DroidContainer>();
        var began = tools.Time.GetTimestamp();
        try
        {
            var release = NewRelease();
            foreach (var (type, number) in wanted)
            {
                next.Add(await tools.Containers.CreateAsync(new NewContainer(spec, image, types, release, type, number),
                    (type.Type, number) is (ProcessType.Web, 1) ? spec.Uid + ".next" : null, cancel));
            }
            if (spec.Asleep == true && droid.Live is null)
            {
                Say("-----> It came here asleep: the next visit starts it");
                return await droid.SwitchAsync(next, asleep: true, cancel);
            }
            await Task.WhenAll(next.Select(tools.Containers.StartNewAsync));
            if (log is not null)
                Become(DeploymentStates.Checking);
            Say(spec.Policy.Health is { } path ? $"-----> Waiting until {path} on port {spec.Port} answers" : $"-----> Waiting until port {spec.Port} is open");
            using var checks = CancellationTokenSource.CreateLinkedTokenSource(cancel);
            await foreach (var check in Task.WhenEach(next.Select(c => CheckAsync(c, spec.Policy, checks.Token))))
            {
                if (await check is not (var failed, { } fault))
                    continue;
                await checks.CancelAsync();
                Say($"       What {(next.Count == 1 ? "the app" : failed.Process)} printed last:");
                foreach (var line in await tools.Containers.TailAsync(failed.Id, 50, cancel))
                    Say($"       {line}");
                throw new BuildException(FailureReasons.NotReady, $"{(next.Count == 1 ? "the app" : failed.Process)} {fault}");
            }
            droid.WakeTimes.Add(thawed: false, tools.Time.GetElapsedTime(began));
            return await droid.SwitchAsync(next, asleep: false, cancel);
        }
        catch
        {
            await Task.WhenAll(next.Where(c => droid.Live?.Release != c.Release).Select(c => tools.Containers.RemoveAsync(c.Id, CancellationToken.None)));
            throw;
        }
    }

    /// <summary>Waits until a new container is ready, or one without a port has stayed up; why it is not, else null.</summary>
    private async Task<(DroidContainer Container, string? Fault)> CheckAsync(DroidContainer made, DroidPolicy policy, CancellationToken cancel)
    {
        async Task<string?> DiedAsync()
        {
            var seen = await tools.Containers.InspectAsync(made.Id, cancel);
            return seen.Running ? null : seen.OutOfMemory ? "ran out of memory" : $"exited with code {seen.ExitCode}";
        }
        return (made, made.IsWeb ? await Readiness.WaitAsync(made.Address, policy, DiedAsync, cancel)
            : await Readiness.StaysUpAsync(made.Spec.RollbackTo is null ? Readiness.StaysUp : Readiness.StaysUpAgain, DiedAsync, cancel));
    }

    /// <summary>Brings the number of each process type to what the formation asks for; what serves goes on meanwhile.</summary>
    private async Task ScaleAsync(DroidSpec spec, CancellationToken stop)
    {
        var live = droid.Live!;
        if (refusedFormation != spec.Generation)
            refused.Clear();
        refusedFormation = spec.Generation;
        var wanted = Wanted(live.Types, spec).ToDictionary(w => string.Create(CultureInfo.InvariantCulture, $"{w.Type.Type}.{w.Number}"));
        var surplus = droid.Processes.Where(p => !wanted.ContainsKey(p.Name)).ToList();
        foreach (var process in surplus)
            await droid.LeaveAsync(process, stop);
        if (surplus.Count > 0)
            Retire([.. surplus.Select(p => p.Container)], live.Spec.Deployment, stop);
        var missing = wanted.Where(w => droid.Processes.All(p => p.Name != w.Key) && !refused.ContainsKey(w.Key)).Select(w => w.Value).ToList();
        if (missing.Count > 0)
        {
            using var outdated = CancellationTokenSource.CreateLinkedTokenSource(stop);
            lock (deployLock)
                (replacing, replacingGeneration) = (outdated, spec.Generation);
            try
            {
                // As what serves was made: newer settings may have been refused.
                await Task.WhenAll(missing.Select(m => AddAsync(new NewContainer(
                    live.Spec with { Formation = spec.Formation, Policy = spec.Policy }, live.ImageId, live.Types, live.Release, m.Type, m.Number), outdated.Token)));
            }
            catch (OperationCanceledException) when (outdated.IsCancellationRequested && !stop.IsCancellationRequested)
            {
                Kick();
                return;
            }
            finally
            {
                lock (deployLock)
                    replacing = null;
            }
        }
        if (surplus.Count > 0 || missing.Count > 0)
            droid.Tell($"scaled to {string.Join(", ", droid.Processes.GroupBy(p => p.Container.Type.Type).Select(g => $"{g.Key}={g.Count()}"))}");
    }

    private async Task AddAsync(NewContainer wanted, CancellationToken cancel)
    {
        DroidContainer? made = null;
        var joined = false;
        try
        {
            made = await tools.Containers.CreateAsync(wanted, (wanted.Type.Type, wanted.Number) is (ProcessType.Web, 1) ? wanted.Spec.Uid : null, cancel);
            // One that sleeps with the others is checked when they wake.
            var awake = droid.IsToBeAwake(made.IsWeb);
            if (awake)
            {
                await tools.Containers.StartNewAsync(made);
                if (await CheckAsync(made, wanted.Spec.Policy, cancel) is (_, { } fault))
                {
                    foreach (var line in await tools.Containers.TailAsync(made.Id, 10, cancel))
                        droid.Tell($"{wanted.Process} printed: {line}");
                    throw new BuildException(FailureReasons.NotReady, fault);
                }
            }
            joined = await droid.JoinAsync(made, awake, cancel);
        }
        catch (BuildException e)
        {
            refused[wanted.Process] = e.Message;
            droid.Tell($"{wanted.Process} is not started: {e.Message}");
        }
        finally
        {
            if (made is not null && !joined)
                await tools.Containers.RemoveAsync(made.Id, CancellationToken.None);
        }
    }

    private async Task ReplaceAsync(DroidSpec spec, DroidContainer live, CancellationToken stop)
    {
        using var outdated = CancellationTokenSource.CreateLinkedTokenSource(stop);
        lock (deployLock)
            (replacing, replacingGeneration) = (outdated, spec.Generation);
        try
        {
            var old = await BringUpAsync(spec, live.ImageId, live.Types, null, outdated.Token);
            droid.Tell(NeedsNewContainer(spec, live.Spec) ? "the new settings are live" : "its containers are replaced");
            Retire(old, spec.Deployment, stop);
        }
        catch (OperationCanceledException) when (outdated.IsCancellationRequested && !stop.IsCancellationRequested)
        {
            Kick();
        }
        catch (BuildException e)
        {
            // The app's own fault, so a second try with the same settings is of no use; Docker's faults are tried again.
            refusedGeneration = spec.Generation;
            droid.Tell(NeedsNewContainer(spec, live.Spec) ? $"the new settings are not taken, the old ones keep serving: {e.Message}"
                : $"its containers can't be replaced, and keep serving: {e.Message}");
        }
        finally
        {
            lock (deployLock)
                replacing = null;
        }
    }

    private void Retire(IReadOnlyList<DroidContainer> old, int live, CancellationToken stop)
    {
        retiring.RemoveAll(t => t.IsCompleted);
        retiring.Add(RetireAsync(old, live, stop));
    }

    /// <summary>
    /// Lets replaced containers finish their requests, then removes them with the images that are not needed any more. Runs beside
    /// the next deployment, which a long-lived websocket would else hold up. Containers that it can't remove, the next look at all does.
    /// </summary>
    private async Task RetireAsync(IReadOnlyList<DroidContainer> old, int live, CancellationToken stop)
    {
        for (var tries = 1; ; tries++)
        {
            try
            {
                await Task.WhenAll(old.Select(async container =>
                {
                    if (container.IsWeb)
                        await droid.DrainAsync(container.Address, tools.Settings.DrainTime, stop);
                    await tools.Containers.StopAsync(container.Id, stop);
                    await tools.Containers.RemoveAsync(container.Id, stop);
                }));
                await tools.Images.CollectAsync(droid.Uid, live,
                    n => droid.Folder.ReadStatus(n) is not { } status || status.State == DeploymentStates.Live, stop);
                return;
            }
            catch (Exception e) when (e is DockerApiException or HttpRequestException or TimeoutException or IOException
                || (e is OperationCanceledException && stop.IsCancellationRequested))
            {
                LogRetire(tools.Log, droid.Uid, e.Message);
                foreach (var container in old)
                    tools.Containers.LetGo(container.Id);
                if (stop.IsCancellationRequested || tries == RetireTries)
                    return;
            }
            // The images are left, which no look at containers sees.
            old = [];
            await Task.Delay(RetryAfter, tools.Time, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private void Become(string state, string? commit = null, int? ahead = null)
    {
        if (stage?.OperationName != state)
        {
            stage?.Dispose();
            stage = DeploymentStates.IsFinal(state) ? null : Telemetry.Begin(state, span?.Id);
        }
        lock (deployLock)
            Deployment = Deployment! with { State = state, Commit = commit ?? Deployment.Commit, Ahead = ahead };
        droid.Folder.WriteStatus(Deployment);
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Droid {Uid} can't be brought to its spec; it is tried again")]
    private static partial void LogFault(ILogger log, string uid, Exception fault);

    [LoggerMessage(Level = LogLevel.Information, Message = "Droid {Uid}: the replaced container is left for later: {Fault}")]
    private static partial void LogRetire(ILogger log, string uid, string fault);
}
