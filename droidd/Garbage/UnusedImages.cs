using System.Collections.Concurrent;
using Appoxy.Droidd.Images;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Garbage;

/// <summary>
/// Tells which of the images that droidd has brought here nothing uses: no container, no version of an app that is kept, and none that
/// is made on top of them, since their layers are shared and would have to be pulled again for nothing.
/// </summary>
internal sealed class UnusedImages(DockerClient docker, BroughtImages brought, DroiddSettings settings)
{
    /// <summary>How older Dockers list an image without a name.</summary>
    private const string NoName = "<none>:<none>";

    private readonly ConcurrentDictionary<string, IReadOnlyList<string>> layers = new();

    /// <summary>What is unused. What is in use is noted as such; what is not here any more is forgotten.</summary>
    public async Task<IReadOnlyList<Unused>> FindAsync(CancellationToken cancel)
    {
        var known = brought.All;
        if (known.Count == 0)
            return [];
        var here = await docker.Images.ListImagesAsync(new(), cancel);
        var running = (await docker.Containers.ListContainersAsync(new() { All = true }, cancel)).Select(c => c.ImageID).ToHashSet();
        var used = here.Where(i => running.Contains(i.ID) || (i.RepoTags ?? []).Any(t => t.StartsWith("appoxy/", StringComparison.Ordinal))).ToList();
        var usedLayers = new List<IReadOnlyList<string>>();
        foreach (var image in used)
            usedLayers.Add(await LayersAsync(image.ID, cancel));
        var configured = settings.BuildStacks.SelectMany(s => new[] { s.Build, s.Run }).Append(settings.DefaultBuilder).Append(settings.LifecycleImage)
            .ToHashSet();
        var (unused, inUse, gone) = (new List<Unused>(), new List<string>(), new List<string>());
        foreach (var (name, lastUsed) in known)
        {
            var image = here.FirstOrDefault(i => Is(i, name));
            // A step's image that has got a name since is an app's, or a base of its own.
            if (image is null || (IsId(name) && (image.RepoTags ?? []).Any(t => t != NoName)))
            {
                gone.Add(name);
                continue;
            }
            var own = await LayersAsync(image.ID, cancel);
            if (configured.Contains(name) || usedLayers.Any(l => l.Count >= own.Count && l.Take(own.Count).SequenceEqual(own)))
                inUse.Add(name);
            else
                unused.Add(new Unused($"image {name}", await OwnBytesAsync(image, own, here, cancel), lastUsed, stop => RemoveAsync(name, stop)));
        }
        if (inUse.Count > 0)
            brought.Use(inUse);
        if (gone.Count > 0)
            brought.Forget(gone);
        foreach (var old in layers.Keys.Except(here.Select(i => i.ID)))
            layers.TryRemove(old, out _);
        return unused;
    }

    private async Task RemoveAsync(string name, CancellationToken cancel)
    {
        await docker.Images.DeleteImageAsync(name, new() { Force = false }, cancel);
        brought.Forget([name]);
    }

    /// <summary>What is in an image beside those that it is made on top of.</summary>
    private async Task<long> OwnBytesAsync(ImagesListResponse image, IReadOnlyList<string> own, IList<ImagesListResponse> here, CancellationToken cancel)
    {
        var below = 0L;
        foreach (var other in here.Where(o => o.ID != image.ID && o.Size <= image.Size && o.Size > below))
        {
            var its = await LayersAsync(other.ID, cancel);
            if (its.Count < own.Count && own.Take(its.Count).SequenceEqual(its))
                below = other.Size;
        }
        return image.Size - below;
    }

    private async Task<IReadOnlyList<string>> LayersAsync(string id, CancellationToken cancel)
    {
        if (layers.TryGetValue(id, out var known))
            return known;
        try
        {
            return layers[id] = [.. (await docker.Images.InspectImageAsync(id, cancel)).RootFS?.Layers ?? []];
        }
        catch (DockerImageNotFoundException)
        {
            return [];
        }
    }

    private static bool Is(ImagesListResponse image, string name) => IsId(name)
        ? image.ID.StartsWith("sha256:" + name, StringComparison.Ordinal)
        : (image.RepoTags ?? []).Any(t => t == name || t == name + ":latest") || (image.RepoDigests ?? []).Contains(name);

    /// <summary>Whether it is an id in the short form in which a build tells them.</summary>
    public static bool IsId(string name) => name.Length == 12 && name.All(c => c is (>= '0' and <= '9') or (>= 'a' and <= 'f'));
}
