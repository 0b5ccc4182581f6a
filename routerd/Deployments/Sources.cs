using Appoxy.Routerd.Sealing;

namespace Appoxy.Routerd.Deployments;

/// <summary>What may be deployed, and how it is shown.</summary>
internal static class Sources
{
    private const string Hidden = "***";

    /// <summary>Checks a source and a builder, and returns them as they are stored.</summary>
    /// <exception cref="Problem">400 or 403, saying what is wrong.</exception>
    public static (DroidSource Source, string Builder) Check(NewDeployment body, bool admin)
    {
        var builder = string.IsNullOrEmpty(body.Builder) ? "auto" : body.Builder;
        switch (body.Source)
        {
            case { Git: { } git, Upload: null, Image: null }:
                if (!SourceRules.IsBuilder(builder))
                    throw Problem.BadRequest("builder: give auto, dockerfile, or pack: and a builder image.");
                return (new DroidSource { Git = Check(git, admin) }, builder);
            case { Git: null, Upload: { } upload, Image: null }:
                if (!SourceRules.IsUpload(upload))
                    throw Problem.BadRequest("source.upload: give the id that an upload was answered with.");
                if (!SourceRules.IsBuilder(builder))
                    throw Problem.BadRequest("builder: give auto, dockerfile, or pack: and a builder image.");
                return (new DroidSource { Upload = upload }, builder);
            case { Git: null, Upload: null, Image: { } image }:
                if (!SourceRules.IsImage(image))
                    throw Problem.BadRequest("source.image: give an image's reference such as registry.example.com/shop:1.2.");
                // What was built for an app is its owner's.
                if (image.StartsWith("appoxy/", StringComparison.Ordinal) && !admin)
                    throw Problem.Forbidden("source.image: only an admin may run the image of another app.");
                if (builder != "auto")
                    throw Problem.BadRequest("builder: an image is not built; leave it out.");
                return (new DroidSource { Image = image }, builder);
            default:
                throw Problem.BadRequest("source: give one of git, upload and image.");
        }
    }

    /// <summary>An address as it is stored and shown, and the whole of it sealed, where it holds a password.</summary>
    public static (string Shown, byte[]? Sealed) Sealed(string url, SecretBox box, SealedColumn column, params string[] row) =>
        SourceRules.Secret(url) is { } secret ? (url.Replace(secret, Hidden, StringComparison.Ordinal), box.Seal(url, column, row)) : (url, null);

    /// <summary>The same of a deployment's source.</summary>
    public static (DroidSource Shown, byte[]? Sealed) Sealed(DroidSource source, SecretBox box, string uid, int number)
    {
        if (source.Git is not { } git)
            return (source, null);
        var (shown, url) = Sealed(git.Url, box, SealedColumn.DeploymentUrl, uid, $"{number}");
        return (source with { Git = git with { Url = shown } }, url);
    }

    /// <summary>A deployment's source as it was given.</summary>
    /// <exception cref="Problem">503: the key is missing.</exception>
    public static DroidSource Whole(DroidSource shown, byte[]? sealedUrl, SecretBox box, string uid, int number) => sealedUrl is null ? shown
        : shown with { Git = shown.Git! with { Url = box.Open(sealedUrl, SealedColumn.DeploymentUrl, uid, $"{number}") } };

    /// <summary>A text about this source without its password.</summary>
    public static string Mask(DroidSource source, string text) =>
        source.Git is { } git && SourceRules.Secret(git.Url) is { } secret ? text.Replace(secret, Hidden, StringComparison.Ordinal) : text;

    private static GitSource Check(GitSource git, bool admin)
    {
        git = new GitSource(git.Url ?? "", string.IsNullOrEmpty(git.Ref) ? null : git.Ref);
        if (SourceRules.Fault(git) is { } fault)
            throw Problem.BadRequest(fault + ".");
        if (git.Url.StartsWith("file:", StringComparison.OrdinalIgnoreCase) && !admin)
            throw Problem.Forbidden("source.git.url: only an admin may deploy from file:// addresses.");
        return git;
    }
}
