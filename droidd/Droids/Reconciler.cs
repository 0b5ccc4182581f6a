using System.Threading.Channels;
using Appoxy.Droidd.Builds;
using Appoxy.Droidd.Images;
using Docker.DotNet;

namespace Appoxy.Droidd.Droids;

/// <summary>What a reconciler works with, the same for all droids of a server.</summary>
internal sealed record DeployTools(
    ImageBuild Build, DroidImages Images, DroidContainers Containers, DroiddSettings Settings, TimeProvider Time, ILogger<Reconciler> Log);

/// <summary>
/// Brings one droid to its spec, one step at a time: a new deployment is fetched, built, started beside the old container,
/// checked, and only then gets the visitors; a change of env or limits does the same from the image at hand.
/// </summary>
internal sealed partial class Reconciler(Droid droid, DeployTools tools)
{
    private static readonly TimeSpan RetryAfter = TimeSpan.FromSeconds(5);

    private readonly Channel<bool> kicks = Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });
    private readonly Lock deployLock = new();
    private CancellationTokenSource? deploying;
    private CancellationTokenSource? replacing;
    private long replacingGeneration;
    private long refusedGeneration;
    private Task retiring = Task.CompletedTask;

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
        await retiring;
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
        if (droid.Spec.Desired == DroidStates.Stopped && droid.Live is not null)
            await droid.SleepAsync(DroidStates.Stopped, tools.Settings.DrainTime, stop);
        else if (droid.State == DroidStates.Stopped)
            await droid.StartStoppedAsync(stop);
    }

    private static bool NeedsNewContainer(DroidSpec wanted, DroidSpec has) =>
        wanted.Deployment == has.Deployment && ((wanted.Port is not null && wanted.Port != has.Port) || wanted.Limits != has.Limits
        || wanted.Env.Count != has.Env.Count || wanted.Env.Except(has.Env).Any());

    private async Task DeployAsync(DroidSpec spec, CancellationToken stop)
    {
        using var cancelled = CancellationTokenSource.CreateLinkedTokenSource(stop);
        using var log = new BuildLog(droid.Folder.Deployment(spec.Deployment));
        lock (deployLock)
        {
            deploying = cancelled;
            Deployment = new DeploymentStatus(spec.Deployment, DeploymentStates.Queued);
        }
        try
        {
            Become(DeploymentStates.Queued);
            var image = await tools.Build.RunAsync(spec, droid.Folder, log, Become, cancelled.Token);
            // Settings may have changed during the build; only the deployment's number is still that of its beginning.
            var newest = droid.Spec is { } now && now.Deployment == spec.Deployment ? now : spec;
            var old = await ReleaseAsync(newest, image, log, cancelled.Token);
            log.Say("-----> Live");
            droid.Tell($"deployment {spec.Deployment} is live");
            Become(DeploymentStates.Live);
            retiring = RetireAsync(old, spec.Deployment, stop);
        }
        catch (BuildException e)
        {
            Fail(e.Reason, e.Message, log);
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested && cancelled.IsCancellationRequested)
        {
            log.Error(" !     Cancelled");
            Become(DeploymentStates.Cancelled);
            await tools.Containers.RemoveAsync(spec.Uid + ".next", stop);
        }
        catch (Exception e) when (e is DockerApiException or HttpRequestException or TimeoutException or IOException or UnauthorizedAccessException)
        {
            LogFault(tools.Log, spec.Uid, e);
            var words = DockerFault.Words(e);
            if (DockerFault.IsDiskFull(words))
                Fail(FailureReasons.DiskFull, "the server's disk is full", log);
            else
                Fail(FailureReasons.Server, $"this server failed at it: {words}", log);
        }
        finally
        {
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
        log.Error($" !     {error}");
        droid.Tell($"deployment {Deployment.Number} failed: {error}");
        droid.Folder.WriteStatus(Deployment);
    }

    /// <summary>Starts a container beside the one that serves, waits until it is ready and switches; the old one, if any, is returned.</summary>
    private async Task<DroidContainer?> ReleaseAsync(DroidSpec spec, string image, BuildLog? log, CancellationToken cancel)
    {
        void Say(string line) => log?.Say(line);
        if (log is not null)
            Become(DeploymentStates.Starting);
        Say("-----> Starting");
        var next = await tools.Containers.StartNextAsync(spec, image, cancel);
        try
        {
            if (log is not null)
                Become(DeploymentStates.Checking);
            var port = next.Spec.Port;
            Say(spec.Policy.Health is { } path ? $"-----> Waiting until {path} on port {port} answers" : $"-----> Waiting until port {port} is open");
            var fault = await Readiness.WaitAsync(next.Address, spec.Policy, async () =>
            {
                var seen = await tools.Containers.InspectAsync(next.Id, cancel);
                return seen.Running ? null : seen.OutOfMemory ? "ran out of memory" : $"exited with code {seen.ExitCode}";
            }, cancel);
            if (fault is null)
                return await droid.SwitchAsync(next, cancel);
            Say("       What the app printed last:");
            foreach (var line in await tools.Containers.TailAsync(next.Id, 50, cancel))
                Say($"       {line}");
            throw new BuildException(FailureReasons.NotReady, $"the app {fault}");
        }
        catch
        {
            if (droid.Live?.Id != next.Id)
                await tools.Containers.RemoveAsync(next.Id, CancellationToken.None);
            throw;
        }
    }

    private async Task ReplaceAsync(DroidSpec spec, DroidContainer live, CancellationToken stop)
    {
        using var outdated = CancellationTokenSource.CreateLinkedTokenSource(stop);
        lock (deployLock)
            (replacing, replacingGeneration) = (outdated, spec.Generation);
        try
        {
            var old = await ReleaseAsync(spec, live.ImageId, null, outdated.Token);
            droid.Tell("the new settings are live");
            retiring = RetireAsync(old, spec.Deployment, stop);
        }
        catch (OperationCanceledException) when (outdated.IsCancellationRequested && !stop.IsCancellationRequested)
        {
            Kick();
        }
        catch (BuildException e)
        {
            // The app's own fault, so a second try with the same settings is of no use; Docker's faults are tried again.
            refusedGeneration = spec.Generation;
            droid.Tell($"the new settings are not taken, the old ones keep serving: {e.Message}");
        }
        finally
        {
            lock (deployLock)
                replacing = null;
        }
    }

    /// <summary>
    /// Lets a replaced container finish its requests, then removes it with the images that are not needed any more. Runs beside
    /// the next deployment, which a long-lived websocket would else hold up. What it can't do, the next start of droidd does.
    /// </summary>
    private async Task RetireAsync(DroidContainer? old, int live, CancellationToken stop)
    {
        try
        {
            if (old is not null)
            {
                await droid.DrainAsync(old.Address, tools.Settings.DrainTime, stop);
                await tools.Containers.StopAsync(old.Id, stop);
                await tools.Containers.RemoveAsync(old.Id, stop);
            }
            await tools.Images.CollectAsync(droid.Uid, live,
                n => droid.Folder.ReadStatus(n) is not { } status || status.State == DeploymentStates.Live, stop);
        }
        catch (Exception e) when (e is DockerApiException or HttpRequestException or TimeoutException or IOException
            || (e is OperationCanceledException && stop.IsCancellationRequested))
        {
            LogRetire(tools.Log, droid.Uid, e.Message);
        }
    }

    private void Become(string state, string? commit = null, int? ahead = null)
    {
        lock (deployLock)
            Deployment = Deployment! with { State = state, Commit = commit ?? Deployment.Commit, Ahead = ahead };
        droid.Folder.WriteStatus(Deployment);
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Droid {Uid} can't be brought to its spec; it is tried again")]
    private static partial void LogFault(ILogger log, string uid, Exception fault);

    [LoggerMessage(Level = LogLevel.Information, Message = "Droid {Uid}: the replaced container is left for later: {Fault}")]
    private static partial void LogRetire(ILogger log, string uid, string fault);
}
