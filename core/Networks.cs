using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace Appoxy;

/// <summary>IP networks such as <c>10.0.0.0/8</c>, in the one form that is stored, compared and written into configurations.</summary>
public static class Networks
{
    /// <summary>
    /// Brings an address or a network to its one form: masked, with its prefix length, as <c>10.0.0.0/8</c> for <c>10.1.2.3/8</c>.
    /// False for all else, short and octal forms of IPv4, scopes, and IPv4 within IPv6 among it.
    /// </summary>
    public static bool TryNormalize(string? text, [NotNullWhen(true)] out string? network)
    {
        network = null;
        if (text is not { Length: > 0 and <= 49 })
            return false;
        var slash = text.IndexOf('/', StringComparison.Ordinal);
        var address = slash < 0 ? text : text[..slash];
        if (!IPAddress.TryParse(address, out var ip) || ip.IsIPv4MappedToIPv6 || address.AsSpan().ContainsAny("%[]")
            || (ip.AddressFamily == AddressFamily.InterNetwork && ip.ToString() != address))
            return false;
        var bytes = ip.GetAddressBytes();
        var length = 8 * bytes.Length;
        if (slash >= 0 && !(int.TryParse(text.AsSpan(slash + 1), NumberStyles.None, CultureInfo.InvariantCulture, out length)
                            && length <= 8 * bytes.Length))
            return false;
        for (var i = 0; i < bytes.Length; i++)
            bytes[i] &= (byte)(0xff00 >> Math.Clamp(length - (8 * i), 0, 8));
        network = $"{new IPAddress(bytes)}/{length}";
        return true;
    }
}
