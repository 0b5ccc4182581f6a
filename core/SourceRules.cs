using System.Text.RegularExpressions;

namespace Appoxy;

/// <summary>What a deployment's source may look like. routerd refuses with these before it stores one, droidd before it runs one.</summary>
public static partial class SourceRules
{
    private static readonly string[] Schemes = ["https", "http", "ssh", "git", "file"];

    /// <summary>What is wrong with a git source; null if nothing. The address is never echoed: it can hold a password.</summary>
    public static string? Fault(GitSource git)
    {
        var url = git.Url;
        if (url.Length is 0 or > 2048 || url[0] == '-' || url.Any(c => char.IsControl(c) || char.IsWhiteSpace(c)))
            return "source.git.url: it is empty, too long, begins with a dash, or holds spaces or control characters";
        if (!ScpLike().IsMatch(url) && !IsGitUrl(url))
            return "source.git.url: give an https, http, ssh, git or file URL, or user@host:path";
        return git.Ref is null || Ref().IsMatch(git.Ref) ? null : "source.git.ref: give a branch, a tag or a commit";
    }

    /// <summary>The host of a git address that has passed <see cref="Fault"/>; null for <c>file://</c>.</summary>
    public static string? Host(string url) => ScpLike().Match(url) is { Success: true } scp ? scp.Groups[1].Value
        : new Uri(url) is { Scheme: not "file" } uri ? uri.DnsSafeHost : null;

    /// <summary>What of a git address is secret: its password, or a user name that is long enough for a token. Null if nothing.</summary>
    public static string? Secret(string url)
    {
        var match = UserInfo().Match(url);
        if (!match.Success)
            return null;
        if (match.Groups["password"] is { Success: true, Length: > 0 } password)
            return password.Value;
        return url.StartsWith("http", StringComparison.OrdinalIgnoreCase) && match.Groups["user"].Length >= 16
            ? match.Groups["user"].Value : null;
    }

    /// <summary>Whether <paramref name="text"/> may name a branch.</summary>
    public static bool IsBranch(string text) => text.Length <= 200 && Ref().IsMatch(text);

    /// <summary>Whether <paramref name="text"/> is a commit's hash.</summary>
    public static bool IsCommit(string text) => text.Length is 40 or 64 && text.All(char.IsAsciiHexDigitLower);

    /// <summary>Whether <paramref name="text"/> names a git host, with a port where it is not the usual one.</summary>
    public static bool IsGitHost(string text) => GitHost().IsMatch(text);

    /// <summary>Whether <paramref name="text"/> refers to an image, as the OCI distribution grammar has it.</summary>
    public static bool IsImage(string text) => text.Length <= 512 && Image().IsMatch(text);

    /// <summary>Whether <paramref name="text"/> is an upload's id: SHA-256 in hex.</summary>
    public static bool IsUpload(string text) => text.Length == 64 && text.All(char.IsAsciiHexDigitLower);

    /// <summary>Whether <paramref name="text"/> names a builder: <c>auto</c>, <c>dockerfile</c> or <c>pack:IMAGE</c>.</summary>
    public static bool IsBuilder(string text) => text is "auto" or "dockerfile"
        || (text.StartsWith("pack:", StringComparison.Ordinal) && IsImage(text["pack:".Length..]));

    private static bool IsGitUrl(string url)
    {
        if (!Uri.TryCreate(url, UriKind.Absolute, out var uri) || !Schemes.Contains(uri.Scheme)
            || !url.StartsWith(uri.Scheme + "://", StringComparison.OrdinalIgnoreCase))
            return false;
        if (uri.Scheme == "file")
            return url.StartsWith("file:///", StringComparison.OrdinalIgnoreCase) && uri.AbsolutePath.Length > 1;
        return uri.Host.Length > 0 && uri.Host[0] != '-' && !uri.UserInfo.StartsWith('-') && uri.AbsolutePath.Length > 1;
    }

    [GeneratedRegex(@"\A[A-Za-z0-9_][A-Za-z0-9_.-]*@([A-Za-z0-9][A-Za-z0-9.-]*):(?!/?-)[^:]+\z")]
    private static partial Regex ScpLike();

    // git's own rules for refs, and commits by their hash.
    [GeneratedRegex(@"\A(?![-/.])(?!.*(?:\.\.|//|@\{|\.lock\z|[/.]\z))[^\x00-\x20\x7f~^:?*\[\\]{1,250}\z")]
    private static partial Regex Ref();

    [GeneratedRegex(@"\A(?=.{1,253}\z)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?\z")]
    private static partial Regex GitHost();

    [GeneratedRegex(@"\A[A-Za-z]+://(?<user>[^/@:]*)(?::(?<password>[^/]*))?@")]
    private static partial Regex UserInfo();

    // [host[:port]/]path[:tag][@digest]
    [GeneratedRegex(@"\A(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
                    + @"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[a-f0-9]{64})?\z", RegexOptions.NonBacktracking)]
    private static partial Regex Image();
}
