using System.Net;
using Appoxy.Cluster;
using Appoxy.Nginx;
using Appoxy.Routerd.Servers;

namespace Appoxy.Routerd.Templates;

/// <summary>
/// All that <c>global.conf.sbn</c> can know; templates write the members in snake_case, as <c>{{ http_port }}</c>. It holds settings
/// only: nothing that a user chose is ever part of a configuration.
/// </summary>
/// <param name="Version">Of this configuration; nginx answers it at its control socket, which tells whether a reload was taken.</param>
/// <param name="Domain">The domain below which apps get their first hostname; the console is at <c>console.</c> of it.</param>
/// <param name="Ipv6">Whether this machine has IPv6 to listen on.</param>
/// <param name="HttpPort">The port that visitors use.</param>
/// <param name="HttpsPort">The port that visitors use with TLS.</param>
/// <param name="Console">Where the control machine's routerd is reached, as <c>127.0.0.1:8700</c>.</param>
/// <param name="Redis">The Redis that holds the routes.</param>
/// <param name="Servers">The droid-servers, by name.</param>
/// <param name="TrustedProxies">Networks of load balancers that stand before this nginx, as <c>10.0.0.0/8</c>.</param>
/// <param name="Tls">How it reaches droid-servers on other machines; null where there are none.</param>
/// <param name="Nginx">The nginx section of <c>routerd.json</c>: paths, modules, workers, max_body.</param>
internal sealed record GlobalModel(
    string Version, string Domain, bool Ipv6, int HttpPort, int HttpsPort, string Console, RedisModel Redis,
    IReadOnlyList<ServerModel> Servers, IReadOnlyList<string> TrustedProxies, TlsModel? Tls,
    NginxSettings Nginx)
{
    private const string Https = "https://";

    public static GlobalModel Of(
        RouterdSettings settings, IReadOnlyList<ServerSettings> servers, TlsModel? tls, string version, NginxSettings nginx) => new(
        version, settings.Domain, System.Net.Sockets.Socket.OSSupportsIPv6 && File.Exists("/proc/net/if_inet6"),
        nginx.TestPort ?? settings.HttpPort, settings.HttpsPort,
        // A proxy's own routerd can't tell droid-servers anything.
        settings.Cluster is { IsProxy: true } proxy ? $"127.0.0.1:{proxy.ApiPort}" : Authority(settings.Listen), RedisModel.Of(settings.Redis),
        // Without a certificate of our own other machines would refuse us.
        [.. servers.Select(Server).Where(s => !s.Tls || tls is not null)],
        [.. settings.TrustedProxies.Select(Network).Distinct()], servers.Any(s => Server(s).Tls) ? tls : null, nginx);

    private static ServerModel Server(ServerSettings server) => server.Upstream.StartsWith(Https, StringComparison.Ordinal)
        ? new ServerModel(server.Name, server.Upstream[Https.Length..], true) : new ServerModel(server.Name, server.Upstream, false);

    private static string Network(string text) =>
        Networks.TryNormalize(text, out var network) ? network : throw new FormatException($"'{text}' is no network");

    /// <summary>Where to connect to what listens at <paramref name="listen"/>.</summary>
    private static string Authority(string listen)
    {
        var uri = new Uri(listen);
        return IPAddress.TryParse(uri.Host.Trim('[', ']'), out var ip) && (ip.Equals(IPAddress.Any) || ip.Equals(IPAddress.IPv6Any))
            ? $"127.0.0.1:{uri.Port}"
            : $"{uri.Host}:{uri.Port}";
    }
}

/// <summary>A droid-server to which the global nginx proxies.</summary>
/// <param name="Name">As <c>ds1</c>.</param>
/// <param name="Upstream"><c>unix:/path</c> or <c>host:port</c>.</param>
/// <param name="Tls">Whether it is another machine, which is reached by mutual TLS.</param>
internal sealed record ServerModel(string Name, string Upstream, bool Tls);

/// <summary>Redis, by unix socket or by address.</summary>
/// <param name="Socket">The socket's path; empty where <paramref name="Host"/> is used.</param>
/// <param name="Host">An address or name.</param>
/// <param name="Port">Its port.</param>
internal sealed record RedisModel(string Socket, string Host, int Port)
{
    private const int DefaultPort = 6379;

    public static RedisModel Of(string redis)
    {
        if (redis.StartsWith("unix:", StringComparison.Ordinal))
            return new RedisModel(redis["unix:".Length..], "127.0.0.1", DefaultPort);
        var colon = redis.LastIndexOf(':');
        return new RedisModel("", redis[..colon], int.Parse(redis[(colon + 1)..], System.Globalization.CultureInfo.InvariantCulture));
    }
}
