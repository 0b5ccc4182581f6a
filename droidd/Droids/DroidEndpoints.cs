using Appoxy.Droidd.Builds;
using Appoxy.Droidd.Garbage;
using Appoxy.Droidd.LocalNginx;
using Microsoft.AspNetCore.Http.Features;

namespace Appoxy.Droidd.Droids;

/// <summary>The Droid-Server Interface: what routerd asks of this server.</summary>
internal static class DroidEndpoints
{
    private static readonly TimeSpan SnoozeLimit = TimeSpan.FromSeconds(30);

    public static void MapDroids(this IEndpointRouteBuilder routes)
    {
        routes.MapGet("/server", (DroidServer server, GarbageCollector garbage, LocalConfig config, DroiddSettings settings) => TypedResults.Ok(new ServerStatus
        {
            Name = settings.Name,
            Version = typeof(DroidEndpoints).Assembly.GetName().Version!.ToString(3),
            Droids = server.Droids.Count(),
            MemoryBytes = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes,
            Cpus = Environment.ProcessorCount,
            Disk = garbage.Status,
            Templates = config.Status,
        }));
        routes.MapPost("/prune", async (DroidServer server, GarbageCollector garbage, CancellationToken cancel) =>
        {
            await server.ReadyAsync(cancel);
            return TypedResults.Ok(await garbage.CollectAsync(all: true, cancel));
        });

        var droids = routes.MapGroup("/droids").AddEndpointFilter(async (context, next) =>
        {
            if (context.HttpContext.GetRouteValue("uid") is string uid && !Names.IsUid(uid))
                throw new Problem(400, "The uid must be 7 characters a-z and 2-7, the first a letter.");
            await context.HttpContext.RequestServices.GetRequiredService<DroidServer>().ReadyAsync(context.HttpContext.RequestAborted);
            return await next(context);
        });
        droids.MapGet("", (DroidServer server) => TypedResults.Ok(server.List()));
        droids.MapGet("/{uid}", (string uid, DroidServer server) => TypedResults.Ok(StatusOf(server, uid)));
        droids.MapPut("/{uid}", async (string uid, DroidSpec spec, DroidServer server, DockerPulse docker, CancellationToken cancel) =>
        {
            if (SpecFault(uid, spec) is { } fault)
                throw new Problem(400, fault);
            var status = await server.PutAsync(spec, cancel);
            // It is kept all the same.
            return await docker.BeatsAsync() ? TypedResults.Ok(status) : throw DockerPulse.Silent();
        });
        // What waits for Docker ends in words where Docker hangs.
        var commands = droids.MapGroup("").AddEndpointFilter(DockerPulse.FilterAsync);
        commands.MapDelete("/{uid}", async (string uid, bool? drain, long? generation, DroidServer server, CancellationToken cancel) =>
        {
            if (drain == true)
                await server.DrainAsync(uid, generation, cancel);
            await server.DeleteAsync(uid, generation, cancel);
            return TypedResults.NoContent();
        });
        droids.MapPost("/{uid}/start", (string uid, DroidServer server, CancellationToken cancel) => WishAsync(server, uid, DroidStates.Running, cancel));
        droids.MapPost("/{uid}/stop", (string uid, DroidServer server, CancellationToken cancel) => WishAsync(server, uid, DroidStates.Stopped, cancel));
        commands.MapPost("/{uid}/restart", async (string uid, DroidServer server) =>
        {
            // Half a restart would be a stop: it goes on though the caller may not wait.
            await LiveOf(server, uid).RestartAsync();
            return TypedResults.Ok(StatusOf(server, uid));
        });
        commands.MapPost("/{uid}/snooze", async (string uid, DroidServer server) =>
        {
            var droid = LiveOf(server, uid);
            if (!await droid.SleepAsync(DroidStates.Snoozed, SnoozeLimit, CancellationToken.None))
                throw new Problem(409, droid.State == DroidStates.Running
                    ? "The app still had requests in flight; it was left running."
                    : $"The app is {droid.State}.");
            return TypedResults.Ok(StatusOf(server, uid));
        });
        commands.MapPost("/{uid}/wake", async (string uid, DroidServer server) =>
        {
            var droid = LiveOf(server, uid);
            if (await droid.WakeAsync(failed: false) != WakeOutcome.Ready)
                throw new Problem(409, droid.Error is { } error ? $"The app does not start: {error}." : $"The app is {droid.State}.");
            return TypedResults.Ok(StatusOf(server, uid));
        });
        droids.MapPost("/{uid}/deployments/{number:int}/cancel", (string uid, int number, DroidServer server) =>
        {
            var status = StatusOf(server, uid);
            if (!server.Cancel(uid, number))
                throw new Problem(409, $"Deployment {number} does not run here.");
            return TypedResults.Ok(status);
        });
        droids.MapGet("/{uid}/logs", LogsAsync);
        commands.MapGet("/{uid}/images", async (string uid, DroidServer server, CancellationToken cancel) =>
            TypedResults.Ok(await server.KeptAsync(uid, cancel)));
        droids.MapPost("/{uid}/uploads", UploadAsync);
    }

    /// <summary>Takes a tar.gz; the app may have no droid yet.</summary>
    private static async Task<IResult> UploadAsync(HttpContext http, string uid, DroidServer server, UploadedFolder uploads, DroiddSettings settings)
    {
        // The limit of our own holds: it says what it is.
        http.Features.GetRequiredFeature<IHttpMaxRequestBodySizeFeature>().MaxRequestBodySize = null;
        var droid = server.Find(uid);
        return TypedResults.Ok(await uploads.TakeAsync(new DroidFolder(settings.DataDir, uid).Uploads, http.Request.Body,
            [droid?.Spec?.Source.Upload, droid?.Live?.Spec.Source.Upload], http.RequestAborted));
    }

    private static async Task LogsAsync(HttpContext http, string uid, DroidServer server, DroidLogs logs, TimeProvider time,
        string? build, int? deployment, bool? follow, int? tail, string? since)
    {
        var droid = Find(server, uid);
        var cancel = http.RequestAborted;
        if (build is not (null or "out" or "err"))
            throw new Problem(400, "build must be out or err.");
        if (tail is < 0)
            throw new Problem(400, "tail must be a number of lines.");
        var from = DateTimeOffset.UnixEpoch;
        if (since is not null && !Quantities.TryParseMoment(since, time.GetUtcNow(), out from))
            throw new Problem(400, "since must be a time such as 10m or 2026-11-25T10:00:00Z.");
        http.Response.ContentType = "text/plain; charset=utf-8";
        if (build is null)
        {
            await logs.CopyAsync(droid, from, tail ?? int.MaxValue, follow == true, http.Response.Body, cancel);
            return;
        }
        var number = deployment ?? droid.Spec!.Deployment;
        await BuildLog.CopyAsync(droid.Folder.Deployment(number), build, http.Response.Body,
            () => follow == true && server.IsDeploying(uid, number), cancel);
    }

    private static async Task<IResult> WishAsync(DroidServer server, string uid, string desired, CancellationToken cancel)
    {
        var spec = Find(server, uid).Spec!;
        return TypedResults.Ok(await server.PutAsync(spec with { Desired = desired }, cancel));
    }

    private static Droid Find(DroidServer server, string uid) => server.Find(uid) ?? throw Unknown();

    private static Droid LiveOf(DroidServer server, string uid) => Find(server, uid) is { Live: not null } droid ? droid
        : throw new Problem(409, "The app has no live deployment yet.");

    private static DroidStatus StatusOf(DroidServer server, string uid) => server.Status(uid) ?? throw Unknown();

    private static Problem Unknown() => new(404, "There is no such droid on this server.");

    /// <summary>What is wrong with a spec; null if nothing.</summary>
    internal static string? SpecFault(string uid, DroidSpec spec)
    {
        if (spec.Uid != uid)
            return "uid must be the one in the path.";
        if (!Names.IsAppName(spec.App))
            return "app must be an app's name.";
        if (spec.Generation < 1 || spec.Deployment < 1)
            return "generation and deployment must be 1 or more.";
        if (new object?[] { spec.Source.Git, spec.Source.Upload, spec.Source.Image }.Count(s => s is not null) != 1)
            return "source must be one of git, upload and image.";
        if (spec.Source.Upload is { } upload && !SourceRules.IsUpload(upload))
            return "source.upload is no SHA-256 in hex.";
        if (spec.Source.Commit is { } commit && (spec.Source.Upload is null || !SourceRules.IsCommit(commit)))
            return "source.commit is no commit, or goes with no upload.";
        if (spec.Source.Git is { } git && SourceRules.Fault(git) is { } fault)
            return fault + ".";
        if (spec.Source.Image is { } image && !SourceRules.IsImage(image))
            return "source.image is no image reference.";
        if (!SourceRules.IsBuilder(spec.Builder))
            return "builder must be auto, dockerfile or pack:IMAGE.";
        if (!spec.Buildpacks.All(SourceRules.IsImage))
            return "buildpacks must be image references.";
        if (spec.RollbackTo is { } earlier && (earlier < 1 || earlier >= spec.Deployment))
            return "rollbackTo must be an earlier deployment.";
        if (spec.Env.FirstOrDefault(e => !Names.IsEnvName(e.Key) || e.Value.Contains('\0')).Key is { } key)
            return $"env: '{key}' is no name, or its value holds a NUL.";
        if (spec.Formation.Select(f => Formations.Fault(f.Key, f.Value)).FirstOrDefault(f => f is not null) is { } count)
            return $"formation: {count}.";
        if (spec.Port is < 1 or > 65535)
            return "port must be from 1 to 65535.";
        if (spec.Limits.MemoryBytes is not 0 and < 6 << 20 || spec.Limits.Cpus is not 0 and (< 0.01 or > 1024))
            return "limits: memory must be 6 MiB or more, cpus from 0.01 to 1024; 0 means no limit.";
        if (spec.Limits.Pids is not 0 and < 16 || spec.Limits.DiskBytes is not 0 and < 1 << 20)
            return "limits: pids must be 16 or more, diskBytes 1 MiB or more; 0 means no limit.";
        if (spec.Volumes.Any(v => !Names.IsUid(v.Id) || !VolumeRules.IsName(v.Name) || !VolumeRules.IsPath(v.Path))
            || spec.Volumes.DistinctBy(v => v.Path).Count() != spec.Volumes.Count)
            return $"volumes: each needs an id, a name, and for itself {VolumeRules.PathExample}.";
        if (spec.Policy is { StartTimeout: < 1 or > 600 } or { PauseAfter: < 0 } or { SnoozeAfter: < 0 })
            return "policy: startTimeout must be from 1 to 600 seconds, pauseAfter and snoozeAfter 0 or more.";
        if (spec.Policy.Health is { } health && (!health.StartsWith('/') || health.Any(c => c is <= ' ' or > '~')))
            return "policy.health must be a path such as /healthz.";
        if (spec.Policy.KeepAwake is { } awake && AwakeWindow.Parse(awake) is null)
            return "policy.keepAwake must be times such as Mon-Fri 08:00-18:00 Europe/Berlin.";
        if (spec.Desired is not (DroidStates.Running or DroidStates.Stopped))
            return "desired must be running or stopped.";
        return null;
    }
}
