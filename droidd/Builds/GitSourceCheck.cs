using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;

namespace Appoxy.Droidd.Builds;

/// <summary>Which git addresses and refs are accepted.</summary>
internal static partial class GitSourceCheck
{
    private static readonly string[] Schemes = ["https", "http", "ssh", "git", "file"];

    /// <summary>What is wrong with the form of <paramref name="source"/>; null if nothing.</summary>
    public static string? Fault(GitSource source)
    {
        if (source.Url.Length is 0 or > 2048 || source.Url.Any(c => char.IsControl(c) || c == ' '))
            return "the git address is empty, too long, or holds spaces or control characters";
        if (!ScpLike().IsMatch(source.Url) && !(source.Url.Contains("://", StringComparison.Ordinal)
            && Uri.TryCreate(source.Url, UriKind.Absolute, out var uri) && Schemes.Contains(uri.Scheme)))
            return "the git address must be an https, ssh, git or file URL, or user@host:path";
        if (source.Ref is not null && !Ref().IsMatch(source.Ref))
            return $"'{source.Ref}' can't be a git ref";
        return null;
    }

    /// <summary>Refuses what only admins may fetch: files of this machine, and hosts at private or loopback addresses.</summary>
    /// <exception cref="BuildException">It is such a source.</exception>
    public static async Task RequirePublicAsync(GitSource source, CancellationToken cancel)
    {
        var scp = ScpLike().Match(source.Url);
        var uri = scp.Success ? null : new Uri(source.Url);
        if (uri?.Scheme == "file")
            throw new BuildException("only an admin may deploy from file:// addresses");
        var host = uri?.DnsSafeHost ?? scp.Groups[1].Value;
        IPAddress[] addresses;
        try
        {
            addresses = await Dns.GetHostAddressesAsync(host, cancel);
        }
        catch (SocketException)
        {
            throw new BuildException($"the git host {host} is not known to DNS");
        }
        if (addresses.Any(IsPrivate))
            throw new BuildException($"the git host {host} has a private address; only an admin may deploy from there");
    }

    internal static bool IsPrivate(IPAddress address)
    {
        if (address.IsIPv4MappedToIPv6)
            address = address.MapToIPv4();
        if (IPAddress.IsLoopback(address) || address.IsIPv6LinkLocal || address.IsIPv6SiteLocal || address.IsIPv6UniqueLocal || address.IsIPv6Multicast
            || address.Equals(IPAddress.IPv6Any))
            return true;
        if (address.AddressFamily != AddressFamily.InterNetwork)
            return false;
        var b = address.GetAddressBytes();
        return b[0] is 0 or 10 or 127 or >= 224 || (b[0], b[1]) is (169, 254) or (192, 168) || (b[0] == 172 && b[1] is >= 16 and < 32)
            || (b[0] == 100 && b[1] is >= 64 and < 128);
    }

    [GeneratedRegex(@"\A[A-Za-z0-9_][A-Za-z0-9_.-]*@([A-Za-z0-9][A-Za-z0-9.-]*):(?!/?-)[^:]+\z")]
    private static partial Regex ScpLike();

    // git's own rules for refs, and commits by their hash.
    [GeneratedRegex(@"\A(?![-/.])(?!.*(?:\.\.|//|@\{|\.lock\z|[/.]\z))[^\x00-\x20\x7f~^:?*\[\\]{1,250}\z")]
    private static partial Regex Ref();
}
