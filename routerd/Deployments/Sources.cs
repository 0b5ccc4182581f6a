using System.Text.RegularExpressions;

namespace Appoxy.Routerd.Deployments;

/// <summary>What may be deployed. No address, ref or image is ever echoed whole: an address can hold a password.</summary>
internal static partial class Sources
{
    private const string Hidden = "***";
    private static readonly string[] Schemes = ["https", "http", "ssh", "git", "file"];

    /// <summary>Checks a source and a builder, and returns them as they are stored.</summary>
    /// <exception cref="Problem">400 or 403, saying what is wrong.</exception>
    public static (DroidSource Source, string Builder) Check(NewDeployment body, bool admin)
    {
        var builder = string.IsNullOrEmpty(body.Builder) ? "auto" : body.Builder;
        switch (body.Source)
        {
            case { Git: { } git, Image: null }:
                if (builder is not ("auto" or "dockerfile")
                    && !(builder.StartsWith("pack:", StringComparison.Ordinal) && IsImage(builder["pack:".Length..])))
                    throw Problem.BadRequest("builder: give auto, dockerfile, or pack: and a builder image.");
                return (new DroidSource { Git = Check(git, admin) }, builder);
            case { Git: null, Image: { } image }:
                if (!IsImage(image))
                    throw Problem.BadRequest("source.image: give an image's reference such as registry.example.com/shop:1.2.");
                if (builder != "auto")
                    throw Problem.BadRequest("builder: an image is not built; leave it out.");
                return (new DroidSource { Image = image }, builder);
            default:
                throw Problem.BadRequest("source: give one of git and image.");
        }
    }

    /// <summary>Without the password that a git address may hold.</summary>
    public static DroidSource Masked(DroidSource source) =>
        source.Git is { } git && Password(git.Url) is { } secret
            ? source with { Git = git with { Url = git.Url.Replace(secret, Hidden, StringComparison.Ordinal) } }
            : source;

    /// <summary>A text about this source without its password.</summary>
    public static string Mask(DroidSource source, string text) =>
        source.Git is { } git && Password(git.Url) is { } secret ? text.Replace(secret, Hidden, StringComparison.Ordinal) : text;

    private static GitSource Check(GitSource git, bool admin)
    {
        var url = git.Url;
        if (string.IsNullOrEmpty(url) || url.Length > 2048 || url[0] == '-' || url.Any(c => char.IsControl(c) || char.IsWhiteSpace(c)))
            throw Problem.BadRequest("source.git.url: it is empty, too long, begins with a dash, or holds spaces or control characters.");
        if (!ScpLike().IsMatch(url) && !IsGitUrl(url))
            throw Problem.BadRequest("source.git.url: give an https, http, ssh, git or file URL, or user@host:path.");
        if (url.StartsWith("file:", StringComparison.OrdinalIgnoreCase) && !admin)
            throw Problem.Forbidden("source.git.url: only an admin may deploy from file:// addresses.");
        var reference = string.IsNullOrEmpty(git.Ref) ? null : git.Ref;
        if (reference is not null && !Reference().IsMatch(reference))
            throw Problem.BadRequest("source.git.ref: give a branch, a tag or a commit.");
        return new GitSource(url, reference);
    }

    private static bool IsGitUrl(string url)
    {
        if (!Uri.TryCreate(url, UriKind.Absolute, out var uri) || !Schemes.Contains(uri.Scheme)
            || !url.StartsWith(uri.Scheme + "://", StringComparison.OrdinalIgnoreCase))
            return false;
        if (uri.Scheme == "file")
            return url.StartsWith("file:///", StringComparison.OrdinalIgnoreCase) && uri.AbsolutePath.Length > 1;
        return uri.Host.Length > 0 && uri.Host[0] != '-' && !uri.UserInfo.StartsWith('-') && uri.AbsolutePath.Length > 1;
    }

    /// <summary>What stands between user and host; where no password is given, a user may itself be a token.</summary>
    private static string? Password(string url)
    {
        if (!url.Contains("://", StringComparison.Ordinal) || url.StartsWith("ssh:", StringComparison.OrdinalIgnoreCase)
            && !url.Contains('@', StringComparison.Ordinal))
            return null;
        var match = UserInfo().Match(url);
        if (!match.Success)
            return null;
        if (match.Groups["password"] is { Success: true, Length: > 0 } password)
            return password.Value;
        return url.StartsWith("http", StringComparison.OrdinalIgnoreCase) && match.Groups["user"].Length >= 16
            ? match.Groups["user"].Value : null;
    }

    private static bool IsImage(string text) => text.Length <= 512 && Image().IsMatch(text);

    [GeneratedRegex(@"\A[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:(?!/?-)[^:]+\z")]
    private static partial Regex ScpLike();

    // git's own rules for refs, and commits by their hash.
    [GeneratedRegex(@"\A(?![-/.])(?!.*(?:\.\.|//|@\{|\.lock\z|[/.]\z))[^\x00-\x20\x7f~^:?*\[\\]{1,250}\z")]
    private static partial Regex Reference();

    [GeneratedRegex(@"\A[A-Za-z]+://(?<user>[^/@:]*)(?::(?<password>[^/]*))?@")]
    private static partial Regex UserInfo();

    // As the OCI distribution reference grammar: [host[:port]/]path[:tag][@digest].
    [GeneratedRegex(@"\A(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
                    + @"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[a-f0-9]{64})?\z", RegexOptions.NonBacktracking)]
    private static partial Regex Image();
}
