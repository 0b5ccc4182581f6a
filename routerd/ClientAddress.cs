using System.Net;

namespace Appoxy.Routerd;

/// <summary>Who really asks: the global nginx, which stands before routerd and knows the trusted proxies, tells.</summary>
internal static class ClientAddress
{
    public static IPAddress Of(HttpContext http)
    {
        var peer = http.Connection.RemoteIpAddress ?? IPAddress.None;
        var address = IPAddress.IsLoopback(peer) && IPAddress.TryParse(http.Request.Headers["X-Real-IP"], out var real) ? real : peer;
        return address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address;
    }

    /// <summary>What to count tries by: an address, of IPv6 the network that one customer has.</summary>
    public static string Network(IPAddress address) => address.GetAddressBytes() is { Length: 16 } bytes
        ? new IPAddress([.. bytes[..8], .. new byte[8]]) + "/64" : address.ToString();
}
