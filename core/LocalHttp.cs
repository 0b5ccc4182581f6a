using System.Net.Security;
using System.Net.Sockets;

namespace Appoxy;

/// <summary>HTTP clients that reach a unix socket, or a name below <c>localhost</c> that no DNS server knows.</summary>
public static class LocalHttp
{
    /// <summary>
    /// A client for <paramref name="address"/>: <c>unix:/path</c>, or an http(s) URL. Names below <c>.localhost</c> go to the
    /// loopback address, as RFC 6761 says and browsers do. Every call is bounded by <paramref name="timeout"/>.
    /// <paramref name="tls"/> says whom to trust, and who we are.
    /// </summary>
    public static HttpClient For(string address, TimeSpan timeout, SslClientAuthenticationOptions? tls = null)
    {
        var socket = address.StartsWith("unix:", StringComparison.Ordinal) ? address["unix:".Length..] : null;
        var handler = new SocketsHttpHandler { UseProxy = false, AllowAutoRedirect = false, ConnectTimeout = TimeSpan.FromSeconds(10) };
        if (tls is not null)
            // So that a renewed or revoked certificate, and a control machine that moved, are noticed.
            (handler.SslOptions, handler.PooledConnectionLifetime) = (tls, TimeSpan.FromSeconds(10));
        handler.ConnectCallback = async (context, cancel) =>
        {
            if (socket is not null)
                return await ConnectAsync(new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified),
                    s => s.ConnectAsync(new UnixDomainSocketEndPoint(socket), cancel));
            var (host, port) = (context.DnsEndPoint.Host, context.DnsEndPoint.Port);
            if (host.EndsWith(".localhost", StringComparison.OrdinalIgnoreCase))
                host = "localhost";
            return await ConnectAsync(new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true },
                s => s.ConnectAsync(host, port, cancel));
        };
        return new HttpClient(handler) { BaseAddress = new Uri(socket is null ? address : "http://localhost/"), Timeout = timeout };
    }

    private static async ValueTask<Stream> ConnectAsync(Socket socket, Func<Socket, ValueTask> connect)
    {
        try
        {
            await connect(socket);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }
}
