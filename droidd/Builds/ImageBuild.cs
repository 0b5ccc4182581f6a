using System.Security.Cryptography;
using System.Text;
using Appoxy.Droidd.Droids;
using Appoxy.Droidd.Images;
using Appoxy.Droidd.Isolation;

namespace Appoxy.Droidd.Builds;

/// <summary>Told how far a deployment's image is.</summary>
/// <param name="state">One of <see cref="DeploymentStates"/>.</param>
/// <param name="commit">The commit, as soon as it is known.</param>
/// <param name="ahead">Builds that come before it, while queued.</param>
internal delegate void BuildProgress(string state, string? commit = null, int? ahead = null);

/// <summary>
/// From a spec to its image, by the shortest way: the deployment's own image where it was built before, an earlier version's for a
/// roll-back, a prebuilt one, one that was built alike, and else a build.
/// </summary>
internal sealed class ImageBuild(
    GitClone git, UploadedFolder uploads, DockerfileBuild dockerfile, PackBuild pack, DroidImages images, BuildQueue queue,
    Firewall firewall)
{
    /// <summary>Brings the image of a spec here.</summary>
    /// <exception cref="BuildException">It can't be had.</exception>
    public async Task<BuiltImage> RunAsync(DroidSpec spec, DroidFolder folder, BuildLog log, BuildProgress progress, CancellationToken cancel)
    {
        var built = await FindOwnAsync(spec, folder, log, progress, cancel) ?? spec switch
        {
            { RollbackTo: { } earlier } => await RollBackAsync(spec, earlier, folder, log, progress, cancel),
            { Source.Image: { } image } => await PullAsync(spec, image, log, progress, cancel),
            _ => await BuildAsync(spec, folder, log, progress, cancel),
        };
        await images.TagAsync(built.Image, spec.Uid, spec.Deployment, cancel);
        folder.WriteBuild(spec.Deployment, built);
        return built;
    }

    /// <summary>What was built for this very deployment, before droidd was ended or its container removed.</summary>
    private async Task<BuiltImage?> FindOwnAsync(DroidSpec spec, DroidFolder folder, BuildLog log, BuildProgress progress, CancellationToken cancel)
    {
        if (folder.ReadBuild(spec.Deployment) is not { } own || await images.FindAsync(own.Image, cancel) is null)
            return null;
        progress(DeploymentStates.Building);
        log.Say("-----> Its image is here already");
        return own;
    }

    private async Task<BuiltImage> RollBackAsync(
        DroidSpec spec, int earlier, DroidFolder folder, BuildLog log, BuildProgress progress, CancellationToken cancel)
    {
        progress(DeploymentStates.Building, folder.ReadStatus(earlier)?.Commit);
        log.Say($"-----> Rolling back to deployment {earlier}");
        var kept = (await images.KeptAsync(spec.Uid, folder, cancel)).FirstOrDefault(k => k.Deployment == earlier)
            ?? throw new BuildException(FailureReasons.Image, $"the image of deployment {earlier} is not kept any more; deploy its source again");
        var built = folder.ReadBuild(earlier);
        return new BuiltImage(built?.Key ?? "", kept.Image, built?.Types);
    }

    private async Task<BuiltImage> PullAsync(DroidSpec spec, string image, BuildLog log, BuildProgress progress, CancellationToken cancel)
    {
        progress(DeploymentStates.Fetching);
        return new BuiltImage("image " + image, await images.EnsureAsync(image, "the image", FailureReasons.Image, log, cancel), BuiltImage.WebAlone);
    }

    private async Task<BuiltImage> BuildAsync(DroidSpec spec, DroidFolder folder, BuildLog log, BuildProgress progress, CancellationToken cancel)
    {
        using var place = await queue.EnterAsync(ahead =>
        {
            log.Say(ahead == 0 ? "-----> Waiting until the server has made room on its disk"
                : $"-----> Waiting: {ahead} {(ahead == 1 ? "build comes" : "builds come")} first");
            progress(DeploymentStates.Queued, ahead: ahead);
        }, cancel);
        return await BuildMetrics.MeasureAsync(() => BuildInTurnAsync(spec, folder, log, progress, cancel));
    }

    private async Task<BuiltImage> BuildInTurnAsync(DroidSpec spec, DroidFolder folder, BuildLog log, BuildProgress progress, CancellationToken cancel)
    {
        firewall.Require();
        progress(DeploymentStates.Fetching);
        var (source, work) = (folder.Source(spec.Deployment), folder.Deployment(spec.Deployment));
        string version;
        if (spec.Source.Upload is { } upload)
        {
            log.Say("-----> Unpacking the upload");
            await uploads.UnpackAsync(folder.Uploads, upload, source, cancel);
            version = upload;
            progress(DeploymentStates.Building, spec.Source.Commit);
            log.Say(spec.Source.Commit is { } commit ? $"-----> Building commit {commit[..12]}" : $"-----> Building upload {upload[..12]}");
        }
        else
        {
            var repository = spec.Source.Git!;
            log.Say($"-----> Fetching {Shown(repository.Url)} {repository.Ref}");
            using (var secrets = new GitSecrets(Path.Combine(work, "git"), folder.KnownHosts, repository, spec.GitAccess))
                version = await git.FetchAsync(repository, secrets, spec.AllowPrivateSources, source, log, cancel);
            progress(DeploymentStates.Building, version);
            log.Say($"-----> Building commit {version[..12]}");
        }
        var scripts = await AppJson.ReadAsync(source, cancel);
        if (UsesDockerfile(spec, source))
        {
            var key = Key(version, "dockerfile");
            var types = await Procfile.ReadAsync(source, log, cancel);
            return new BuiltImage(key, await FindAlikeAsync(spec, key, folder, log, cancel)
                ?? await dockerfile.BuildAsync(source, DroidImages.Tag(spec.Uid, spec.Deployment), spec.Uid, log, cancel), types, scripts);
        }
        var (builder, builderId) = await pack.BuilderAsync(spec, work, log, cancel);
        // The build sees the environment, so that another one may give another image.
        var env = spec.Env.OrderBy(e => e.Key, StringComparer.Ordinal).SelectMany(e => new[] { e.Key, e.Value });
        var packKey = Key([version, "pack", builder, builderId, .. env]);
        if (await FindAlikeAsync(spec, packKey, folder, log, cancel) is not { } image)
        {
            log.Say($"-----> Building with {builder}");
            image = await pack.BuildAsync(source, work, builder, spec, log, cancel);
        }
        return new BuiltImage(packKey, image, await pack.TypesAsync(image, cancel), scripts);
    }

    private static bool UsesDockerfile(DroidSpec spec, string source)
    {
        var there = File.Exists(Path.Combine(source, "Dockerfile"));
        if (spec.Builder == "dockerfile" && !there)
            throw new BuildException(FailureReasons.NoBuilderFits, "there is no Dockerfile in the top folder");
        return spec.Builder == "dockerfile" || (spec.Builder == "auto" && spec.Buildpacks.Count == 0 && there);
    }

    private async Task<string?> FindAlikeAsync(DroidSpec spec, string key, DroidFolder folder, BuildLog log, CancellationToken cancel)
    {
        if (spec.Rebuild)
            return null;
        foreach (var (number, built) in folder.Builds().Where(b => b.Built.Key == key))
        {
            if (await images.FindAsync(built.Image, cancel) is null)
                continue;
            log.Say($"-----> Nothing has changed since deployment {number}: its image is taken (deploy with --force to build anew)");
            return built.Image;
        }
        return null;
    }

    /// <summary>A name for what goes into a build; a hash, since the environment is secret.</summary>
    private static string Key(params string[] parts)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var part in parts)
        {
            var bytes = Encoding.UTF8.GetBytes(part);
            hash.AppendData(BitConverter.GetBytes(bytes.Length));
            hash.AppendData(bytes);
        }
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>A git address without its password.</summary>
    private static string Shown(string url) =>
        SourceRules.Secret(url) is { } secret ? url.Replace(secret, "***", StringComparison.Ordinal) : url;
}
