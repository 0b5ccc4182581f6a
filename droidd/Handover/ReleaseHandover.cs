using Appoxy.Droidd.Droids;
using Appoxy.Droidd.Images;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Handover;

/// <summary>
/// What an app's deployments here came to, out and in, for an app that moves to another server: images as <c>docker save</c> writes
/// them, and what is known of them beside.
/// </summary>
internal sealed class ReleaseHandover(DockerClient docker, DroidImages images, DroiddSettings settings)
{
    /// <summary>The deployments whose image is here, newest first.</summary>
    public async Task<IReadOnlyList<HandedRelease>> ListAsync(string uid, CancellationToken cancel)
    {
        var folder = new DroidFolder(settings.DataDir, uid);
        return [.. (await images.KeptAsync(uid, folder, cancel)).Select(k =>
        {
            var (built, status) = (folder.ReadBuild(k.Deployment), folder.ReadStatus(k.Deployment));
            return new HandedRelease(k.Deployment, k.Image, built?.Key ?? "", built?.Types, status?.State, status?.Commit, folder.IsReleased(k.Deployment));
        })];
    }

    /// <summary>The images of some deployments, with the layers that they share but once.</summary>
    /// <exception cref="Problem">404: one of them is not here.</exception>
    public async Task<Stream> SaveAsync(string uid, IReadOnlyCollection<int> deployments, CancellationToken cancel)
    {
        var kept = (await images.KeptAsync(uid, new DroidFolder(settings.DataDir, uid), cancel)).ToDictionary(k => k.Deployment, k => k.Image);
        var names = new List<string>();
        foreach (var number in deployments)
        {
            var tag = DroidImages.Tag(uid, number);
            // By its tag, if it has one, so that it has a name as soon as it is there.
            names.Add(await images.FindAsync(tag, cancel) is not null ? tag
                : kept.GetValueOrDefault(number) ?? throw new Problem(404, $"The image of deployment {number} is not here."));
        }
        return await docker.Images.SaveImagesAsync([.. names], cancel);
    }

    /// <exception cref="Problem">400: Docker can't read it. 503: the disk has no room for it.</exception>
    public async Task LoadAsync(Stream source, CancellationToken cancel)
    {
        string? fault = null;
        try
        {
            await docker.Images.LoadImageAsync(new ImageLoadParameters { Quiet = true }, source,
                new Progress<JSONMessage>(m => fault = m.Error?.Message ?? fault), cancel);
        }
        catch (DockerApiException e)
        {
            fault = Builds.DockerFault.Words(e);
        }
        if (fault is not null)
            throw new Problem(Builds.DockerFault.IsDiskFull(fault) ? 503 : 400, $"Docker does not take the images: {fault}");
    }

    /// <summary>Notes what came of deployments on another server, as if it had been here; those whose image is missing are returned.</summary>
    public async Task<IReadOnlyList<int>> TakeAsync(string uid, IReadOnlyList<HandedRelease> releases, CancellationToken cancel)
    {
        var (folder, missing) = (new DroidFolder(settings.DataDir, uid), new List<int>());
        foreach (var release in releases)
        {
            if (release.Image is { } image)
            {
                if (await images.FindAsync(image, cancel) is null)
                {
                    missing.Add(release.Deployment);
                    continue;
                }
                await images.TagAsync(image, uid, release.Deployment, cancel);
                folder.WriteBuild(release.Deployment, new BuiltImage(release.Key, image, release.Types));
            }
            if (release.Released)
                folder.WriteReleased(release.Deployment);
            if (release.State is { } state)
                folder.WriteStatus(new DeploymentStatus(release.Deployment, state, Commit: release.Commit));
        }
        return missing;
    }
}
