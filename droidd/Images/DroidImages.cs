using System.Globalization;
using System.Net;
using Appoxy.Droidd.Builds;
using Appoxy.Droidd.Droids;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Images;

/// <summary>The droids' images in Docker: <c>appoxy/&lt;uid&gt;:&lt;deployment&gt;</c>, and what they are made of.</summary>
internal sealed partial class DroidImages(DockerClient docker, BroughtImages brought, DroiddSettings settings, ILogger<DroidImages> log)
{
    public static string Tag(string uid, int deployment) => string.Create(CultureInfo.InvariantCulture, $"appoxy/{uid}:{deployment}");

    /// <summary>What pack builds to: one name for all builds of an app, as it keeps layers and caches by the image's name.</summary>
    public static string BuildTag(string uid) => $"appoxy/{uid}:build";

    /// <summary>Pulls an image unless it is here already; its id.</summary>
    /// <param name="image">Its reference.</param>
    /// <param name="what">What it is, for a fault: <c>the builder</c>.</param>
    /// <param name="reason">Why a deployment fails without it: one of <see cref="FailureReasons"/>.</param>
    /// <param name="build">Gets a line where it is pulled.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="BuildException">There is no such image, or it takes too long.</exception>
    public async Task<string> EnsureAsync(string image, string what, string reason, BuildLog build, CancellationToken cancel)
    {
        if (await FindAsync(image, cancel) is { } here)
        {
            brought.Use([image]);
            return here;
        }
        build.Say($"-----> Pulling {image}");
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        timeout.CancelAfter(settings.FetchTime);
        try
        {
            var named = image.IndexOf(':', image.LastIndexOf('/') + 1) > 0 || image.Contains('@');
            var parameters = new ImagesCreateParameters { FromImage = named ? image : image + ":latest" };
            await docker.Images.CreateImageAsync(parameters, null, new Progress<JSONMessage>(), timeout.Token);
            var pulled = await FindAsync(image, cancel) ?? throw new BuildException(reason, $"{what} {image} is not there, and Docker did not pull it");
            brought.Add(image);
            return pulled;
        }
        catch (DockerApiException e)
        {
            var words = DockerFault.Words(e);
            throw new BuildException(DockerFault.IsDiskFull(words) ? FailureReasons.DiskFull : reason, $"Docker can't get {what} {image}: {words}");
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new BuildException(FailureReasons.Timeout, $"pulling {what} {image} took longer than {settings.FetchTimeout}");
        }
    }

    /// <summary>The id of an image by its reference or id; null if it is not here.</summary>
    public async Task<string?> FindAsync(string image, CancellationToken cancel)
    {
        try
        {
            return (await docker.Images.InspectImageAsync(image, cancel)).ID;
        }
        catch (DockerApiException e) when (e.StatusCode == HttpStatusCode.NotFound)
        {
            return null;
        }
    }

    /// <summary>Keeps an image as that of a deployment.</summary>
    public Task TagAsync(string imageId, string uid, int deployment, CancellationToken cancel) => docker.Images.TagImageAsync(imageId, new()
    {
        RepositoryName = "appoxy/" + uid, Tag = deployment.ToString(CultureInfo.InvariantCulture),
    }, cancel);

    /// <summary>The deployments whose image is here, newest first; several can share one.</summary>
    public async Task<IReadOnlyList<KeptImage>> KeptAsync(string uid, DroidFolder folder, CancellationToken cancel)
    {
        var tagged = await TaggedAsync(uid, cancel);
        var here = tagged.Select(t => t.Image).ToHashSet();
        var shared = folder.Builds().Where(b => here.Contains(b.Built.Image)).Select(b => new KeptImage(b.Number, b.Built.Image));
        return [.. tagged.Concat(shared).Distinct().OrderByDescending(k => k.Deployment)];
    }

    /// <summary>
    /// Deletes the images of a droid's older deployments but of the versions that are kept: the newest that were live once and are
    /// another image than the one that serves.
    /// </summary>
    /// <param name="uid">The droid.</param>
    /// <param name="live">The deployment that serves; newer ones are left alone.</param>
    /// <param name="wasLive">Whether a deployment went live once.</param>
    /// <param name="cancel">Ends it.</param>
    public async Task CollectAsync(string uid, int live, Func<int, bool> wasLive, CancellationToken cancel)
    {
        var tagged = await TaggedAsync(uid, cancel);
        var serving = tagged.FirstOrDefault(t => t.Deployment == live)?.Image;
        var kept = tagged.Where(t => t.Deployment < live && t.Image != serving && wasLive(t.Deployment))
            .DistinctBy(t => t.Image).Take(settings.KeptVersions).ToHashSet();
        await DeleteAsync(tagged.Where(t => t.Deployment < live && !kept.Contains(t)).Select(t => Tag(uid, t.Deployment)), cancel);
    }

    public async Task DeleteAllAsync(string uid, CancellationToken cancel)
    {
        var tags = (await TaggedAsync(uid, cancel)).Select(t => Tag(uid, t.Deployment));
        await DeleteAsync(await FindAsync(BuildTag(uid), cancel) is null ? tags : tags.Append(BuildTag(uid)), cancel);
    }

    /// <summary>The images that have a deployment's tag, newest deployment first.</summary>
    private async Task<List<KeptImage>> TaggedAsync(string uid, CancellationToken cancel)
    {
        var prefix = $"appoxy/{uid}:";
        var images = await docker.Images.ListImagesAsync(new()
        {
            Filters = new Dictionary<string, IDictionary<string, bool>> { ["reference"] = new Dictionary<string, bool> { [prefix + "*"] = true } },
        }, cancel);
        KeptImage? Read(string tag, string id) => tag.StartsWith(prefix, StringComparison.Ordinal)
            && int.TryParse(tag.AsSpan(prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var n) ? new(n, id) : null;
        return [.. images.SelectMany(i => (i.RepoTags ?? []).Select(t => Read(t, i.ID))).OfType<KeptImage>().OrderByDescending(k => k.Deployment)];
    }

    private async Task DeleteAsync(IEnumerable<string> tags, CancellationToken cancel)
    {
        foreach (var tag in tags.ToList())
        {
            try
            {
                await docker.Images.DeleteImageAsync(tag, new() { Force = false }, cancel);
            }
            catch (DockerApiException e)
            {
                LogKept(log, tag, e.Message);
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Image {Tag} is kept: {Fault}")]
    private static partial void LogKept(ILogger log, string tag, string fault);
}
