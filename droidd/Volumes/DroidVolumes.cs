using System.Collections.Concurrent;
using System.Net;
using Appoxy.Droidd.Isolation;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Volumes;

/// <summary>The droids' volumes in Docker, known by their labels. They outlive every container, and go only by command or with their app.</summary>
internal sealed class DroidVolumes(DockerClient docker)
{
    private const string IdLabel = "appoxy.volume";
    private const UnixFileMode ForAll = (UnixFileMode)0b111_111_111;

    private readonly ConcurrentDictionary<string, string> folders = new();

    /// <summary>Docker's name of a volume.</summary>
    public static string NameOf(string id) => "appoxy-volume-" + id;

    /// <summary>Makes what is missing of an app's volumes.</summary>
    public async Task EnsureAsync(string uid, IEnumerable<DroidVolume> volumes, CancellationToken cancel)
    {
        foreach (var volume in volumes)
            await EnsureAsync(uid, volume.Id, cancel);
    }

    /// <summary>The folder of a volume, which is made where it is missing.</summary>
    public async Task<string> EnsureAsync(string uid, string id, CancellationToken cancel)
    {
        if (await FolderAsync(id, cancel) is { } there)
            return there;
        var created = await docker.Volumes.CreateAsync(new()
        {
            Name = NameOf(id), Labels = new Dictionary<string, string> { [DroidLabels.Uid] = uid, [IdLabel] = id },
        }, cancel);
        // Docker would make it root's, and most images run as somebody else. Nobody but the app gets this far: Docker's own folder
        // is closed. Where the image has something at its path, Docker gives the volume that one's owner and mode instead.
        File.SetUnixFileMode(created.Mountpoint, ForAll);
        return folders[id] = created.Mountpoint;
    }

    /// <summary>Where a volume's files are; null where there is none.</summary>
    public async Task<string?> FolderAsync(string id, CancellationToken cancel)
    {
        if (folders.TryGetValue(id, out var known) && Directory.Exists(known))
            return known;
        folders.TryRemove(id, out _);
        try
        {
            return folders[id] = (await docker.Volumes.InspectAsync(NameOf(id), cancel)).Mountpoint;
        }
        catch (DockerApiException e) when (e.StatusCode == HttpStatusCode.NotFound)
        {
            return null;
        }
    }

    /// <summary>An app's volumes and what they hold.</summary>
    public async Task<IReadOnlyList<VolumeSize>> ListAsync(string uid, CancellationToken cancel)
    {
        var found = await FindAsync(uid, cancel);
        var sizes = await DiskWatch.SizesAsync([.. found.Select(v => v.Mountpoint)], cancel);
        return [.. found.Select(v => new VolumeSize(v.Labels[IdLabel], sizes.GetValueOrDefault(v.Mountpoint)))];
    }

    /// <summary>Removes a volume; one that is not there is no fault.</summary>
    /// <exception cref="Problem">409: a container has it still.</exception>
    public async Task RemoveAsync(string uid, string id, CancellationToken cancel)
    {
        if (!(await FindAsync(uid, cancel)).Any(v => v.Name == NameOf(id)))
            return;
        try
        {
            await docker.Volumes.RemoveAsync(NameOf(id), force: false, cancel);
            folders.TryRemove(id, out _);
        }
        catch (DockerApiException e) when (e.StatusCode == HttpStatusCode.NotFound)
        {
            // Gone meanwhile.
        }
        catch (DockerApiException e) when (e.StatusCode == HttpStatusCode.Conflict)
        {
            throw new Problem(409, "A container of the app has the volume still; it goes with that.");
        }
    }

    /// <summary>Removes all volumes of an app that is destroyed.</summary>
    public async Task DeleteAllAsync(string uid, CancellationToken cancel)
    {
        foreach (var volume in await FindAsync(uid, cancel))
            await RemoveAsync(uid, volume.Labels[IdLabel], cancel);
    }

    private async Task<IList<VolumeResponse>> FindAsync(string uid, CancellationToken cancel) =>
        [.. ((await docker.Volumes.ListAsync(new()
        {
            Filters = new Dictionary<string, IDictionary<string, bool>>
            {
                ["label"] = new Dictionary<string, bool> { [$"{DroidLabels.Uid}={uid}"] = true },
            },
        }, cancel)).Volumes ?? []).Where(v => v.Labels?.ContainsKey(IdLabel) == true)];
}
