using System.Net;
using System.Net.Sockets;

namespace Appoxy.Droidd.Builds;

/// <summary>Keeps builds of users away from this machine and its private networks.</summary>
internal static class GitSourceCheck
{
    /// <summary>Refuses what only admins may fetch: files of this machine, and hosts at private or loopback addresses.</summary>
    /// <exception cref="BuildException">It is such a source.</exception>
    public static async Task RequirePublicAsync(string url, CancellationToken cancel)
    {
        var host = SourceRules.Host(url) ?? throw new BuildException(FailureReasons.Source, "only an admin may deploy from file:// addresses");
        IPAddress[] addresses;
        try
        {
            addresses = await Dns.GetHostAddressesAsync(host, cancel);
        }
        catch (SocketException)
        {
            throw new BuildException(FailureReasons.Source, $"the git host {host} is not known to DNS");
        }
        if (addresses.Any(IsPrivate))
            throw new BuildException(FailureReasons.Source, $"the git host {host} has a private address; only an admin may deploy from there");
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
}
