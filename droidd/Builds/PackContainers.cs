using System.Threading.Channels;
using Appoxy.Droidd.Images;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Builds;

/// <summary>
/// The containers that pack makes for one build. pack labels all of them alike and sets no limits; this knows those of its build by
/// their volumes, limits them as they come, and removes what a pack that was killed has left behind.
/// </summary>
internal sealed partial class PackContainers(DockerClient docker, DroiddSettings settings, string uid, string work, ILogger log) : IAsyncDisposable
{
    private const string List = "pack.volumes";
    private static readonly Dictionary<string, bool> ByPack = new() { ["author=pack"] = true };

    private readonly HashSet<string> volumes = [];
    private readonly CancellationTokenSource stop = new();
    private Task following = Task.CompletedTask;

    /// <summary>Follows what pack makes from now on.</summary>
    public async Task BeginAsync(CancellationToken cancel)
    {
        await ClearAsync(docker, work, cancel);
        var created = Channel.CreateBounded<string>(1000);
        var since = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        var events = docker.System.MonitorEventsAsync(new ContainerEventsParameters
        {
            Since = since.ToString(System.Globalization.CultureInfo.InvariantCulture),
            Filters = new Dictionary<string, IDictionary<string, bool>>
            {
                ["type"] = new Dictionary<string, bool> { ["container"] = true },
                ["event"] = new Dictionary<string, bool> { ["create"] = true },
                ["label"] = ByPack,
            },
        }, new Ids(created.Writer), stop.Token);
        following = FollowAsync(events, created);
    }

    private async Task FollowAsync(Task events, Channel<string> created)
    {
        _ = events.ContinueWith(_ => created.Writer.TryComplete(), TaskScheduler.Default);
        try
        {
            await foreach (var id in created.Reader.ReadAllAsync(stop.Token))
                await TakeAsync(id);
            await events;
        }
        catch (OperationCanceledException)
        {
            // The build has ended.
        }
        catch (Exception e) when (e is DockerApiException or HttpRequestException or TimeoutException or IOException)
        {
            LogLost(log, uid, e.Message);
        }
    }

    private async Task TakeAsync(string id)
    {
        try
        {
            var seen = await docker.Containers.InspectContainerAsync(id, stop.Token);
            var bound = (seen.HostConfig?.Binds ?? []).Select(b => b.Split(':')[0]).ToList();
            // The first phase names the image or a cache; the others share its volumes.
            if (!bound.Exists(volumes.Contains) && !bound.Exists(b => b.StartsWith($"appoxy-cache-{uid}-", StringComparison.Ordinal))
                && seen.Args?.Any(a => a.EndsWith(DroidImages.BuildTag(uid), StringComparison.Ordinal)) != true)
                return;
            foreach (var volume in bound.Where(IsOfOneBuild))
            {
                if (volumes.Add(volume))
                    await File.AppendAllTextAsync(Path.Combine(work, List), volume + "\n", stop.Token);
            }
            await docker.Containers.UpdateContainerAsync(id, new()
            {
                Memory = settings.BuildMemoryBytes,
                MemorySwap = settings.BuildMemoryBytes,
                NanoCPUs = (long)(settings.BuildCpus * 1e9),
                CPUShares = DockerfileBuild.CpuShares,
            }, stop.Token);
        }
        catch (DockerApiException e)
        {
            // A short one has ended already.
            LogMissed(log, id, DockerFault.Words(e));
        }
    }

    /// <summary>Whether pack makes a volume of this name anew for each build.</summary>
    private static bool IsOfOneBuild(string volume) =>
        volume.StartsWith("pack-layers-", StringComparison.Ordinal) || volume.StartsWith("pack-app-", StringComparison.Ordinal);

    /// <summary>Removes what is left of the build; after one that went well, nothing is.</summary>
    public async ValueTask DisposeAsync()
    {
        await stop.CancelAsync();
        await following;
        stop.Dispose();
        try
        {
            using var bound = new CancellationTokenSource(TimeSpan.FromMinutes(1));
            await ClearAsync(docker, work, bound.Token);
        }
        catch (Exception e) when (e is DockerApiException or HttpRequestException or TimeoutException or IOException or OperationCanceledException)
        {
            // droidd's next start does it.
            LogLost(log, uid, e.Message);
        }
    }

    /// <summary>Removes the containers, builders and volumes of a build that ended without doing so, as its folder tells.</summary>
    public static async Task ClearAsync(DockerClient docker, string work, CancellationToken cancel)
    {
        var list = Path.Combine(work, List);
        if (!File.Exists(list))
            return;
        var left = (await File.ReadAllLinesAsync(list, cancel)).ToHashSet();
        var found = await docker.Containers.ListContainersAsync(new()
        {
            All = true, Filters = new Dictionary<string, IDictionary<string, bool>> { ["label"] = ByPack },
        }, cancel);
        foreach (var container in found.Where(c => c.Mounts?.Any(m => m.Name is { } name && left.Contains(name)) == true))
        {
            await IgnoreGoneAsync(() => docker.Containers.RemoveContainerAsync(container.ID, new() { Force = true, RemoveVolumes = true }, cancel));
            if (container.Image.StartsWith("pack.local/", StringComparison.Ordinal))
                await IgnoreGoneAsync(() => docker.Images.DeleteImageAsync(container.Image, new() { Force = true }, cancel));
        }
        foreach (var volume in left)
            await IgnoreGoneAsync(() => docker.Volumes.RemoveAsync(volume, force: true, cancel));
        File.Delete(list);
    }

    private static async Task IgnoreGoneAsync(Func<Task> remove)
    {
        try
        {
            await remove();
        }
        catch (DockerApiException e) when (e.StatusCode is System.Net.HttpStatusCode.NotFound or System.Net.HttpStatusCode.Conflict)
        {
            // Gone, or on its way.
        }
    }

    private sealed class Ids(ChannelWriter<string> target) : IProgress<Message>
    {
        public void Report(Message value)
        {
            if (value.Actor?.ID is { } id)
                target.TryWrite(id);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The build of {Uid} runs without limits, or leaves containers behind: {Fault}")]
    private static partial void LogLost(ILogger log, string uid, string fault);

    [LoggerMessage(Level = LogLevel.Debug, Message = "Container {Id} of a build is not limited: {Fault}")]
    private static partial void LogMissed(ILogger log, string id, string fault);
}
