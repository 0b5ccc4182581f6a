using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using Appoxy.Cluster;
using Microsoft.AspNetCore.Http.Features;
using Npgsql;

namespace Appoxy.Routerd.Cluster;

/// <summary>
/// Lets a proxy reach Postgres, Redis and the API of the control machine through the cluster's port: so that there is one place that
/// knows certificates, renews them, and refuses those that were revoked, which Redis can't do at all.
/// </summary>
internal static class StoreTunnels
{
    public const string Postgres = "postgres", Redis = "redis", Api = "api";
    private static readonly TimeSpan Look = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(5);

    /// <summary>The control machine's end: <c>GET /cluster/stores/{store}</c>, which becomes a connection to the store.</summary>
    public static async Task ServeAsync(string store, HttpContext http, RouterdSettings settings, NodeIdentity identity)
    {
        if (NodeName.Of(http.Connection.ClientCertificate!)?.Role != Roles.Proxy)
            throw Problem.Forbidden("This is for proxies.");
        if (http.Features.Get<IHttpUpgradeFeature>() is not { IsUpgradableRequest: true } upgrade)
            throw Problem.BadRequest("Ask for an upgrade of the connection.");
        await using var target = await ConnectAsync(store switch
        {
            Postgres => new NpgsqlConnectionStringBuilder(settings.Postgres) is var postgres ? $"{postgres.Host}:{postgres.Port}" : "",
            Redis => settings.Redis,
            Api => new Uri(settings.Listen).Authority,
            _ => throw Problem.NotFound("There is no such store."),
        }, http.RequestAborted);
        http.Response.Headers.Upgrade = "tcp";
        await using var proxy = await upgrade.UpgradeAsync();
        using var end = CancellationTokenSource.CreateLinkedTokenSource(http.RequestAborted);
        var joined = JoinAsync(proxy, target, end.Token);
        // What is open must not outlive a certificate that is revoked meanwhile.
        while (await Task.WhenAny(joined, Task.Delay(Look, end.Token)) != joined)
        {
            if (identity.Fault(http.Connection.ClientCertificate, null, Roles.Proxy) is not null)
                await end.CancelAsync();
        }
        await end.CancelAsync();
        await joined;
    }

    /// <summary>Copies both ways until one side ends.</summary>
    public static async Task JoinAsync(Stream one, Stream other, CancellationToken cancel)
    {
        using var end = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        Task[] ways = [one.CopyToAsync(other, end.Token), other.CopyToAsync(one, end.Token)];
        await Task.WhenAny(ways);
        await end.CancelAsync();
        await Task.WhenAll(ways).ContinueWith(_ => { }, CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
    }

    private static async Task<Stream> ConnectAsync(string address, CancellationToken cancel)
    {
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(Limit);
        var unix = address.StartsWith("unix:", StringComparison.Ordinal);
        var socket = unix ? new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified)
            : new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            var colon = address.LastIndexOf(':');
            if (unix)
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(address["unix:".Length..]), bound.Token);
            else
                await socket.ConnectAsync(address[..colon].Trim('[', ']'), int.Parse(address[(colon + 1)..], System.Globalization.CultureInfo.InvariantCulture), bound.Token);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException)
        {
            socket.Dispose();
            throw Problem.Unavailable("The store does not answer.");
        }
    }
}

/// <summary>A proxy's end of a tunnel: a port of its own on the loopback address, for what there means the control machine's store.</summary>
/// <param name="store">As <see cref="StoreTunnels.Postgres"/>.</param>
/// <param name="port">The port.</param>
/// <param name="settings">Where the control machine is.</param>
/// <param name="identity">Who we are.</param>
/// <param name="log">Told when a tunnel can't be opened, and when it can again.</param>
internal sealed partial class StoreTunnel(string store, int port, ClusterSettings settings, NodeIdentity identity, ILogger<StoreTunnel> log)
    : BackgroundService
{
    private const int MaxHeader = 4096;
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(5);
    private string? fault;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var listener = new TcpListener(IPAddress.Loopback, port);
        listener.Start();
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                _ = PassAsync(await listener.AcceptTcpClientAsync(stoppingToken), stoppingToken);
            }
            catch (SocketException)
            {
                // That one left again.
            }
        }
    }

    private async Task PassAsync(TcpClient client, CancellationToken cancel)
    {
        using (client)
        {
            try
            {
                client.NoDelay = true;
                await using var control = await OpenAsync(cancel);
                if (fault is not null)
                    LogOpens(log, store);
                fault = null;
                await StoreTunnels.JoinAsync(client.GetStream(), control, cancel);
            }
            catch (Exception e) when (e is IOException or SocketException or OperationCanceledException or System.Security.Authentication.AuthenticationException)
            {
                if (fault != e.Message && !cancel.IsCancellationRequested)
                    LogFails(log, store, settings.Control, e.Message);
                fault = e.Message;
            }
        }
    }

    private async Task<Stream> OpenAsync(CancellationToken cancel)
    {
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(Limit);
        var control = new Uri(settings.Control);
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        SslStream? tls = null;
        try
        {
            socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
            socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, 5);
            socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, 2);
            socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, 3);
            await socket.ConnectAsync(control.IdnHost.Trim('[', ']'), control.Port, bound.Token);
            tls = new SslStream(new NetworkStream(socket, ownsSocket: true));
            var distrust = "";
            var options = identity.ClientOptions(NodeName.ControlHost, Roles.Control, found => distrust = found);
            options.TargetHost = NodeName.ControlHost;
            await tls.AuthenticateAsClientAsync(options, bound.Token);
            await tls.WriteAsync(Encoding.ASCII.GetBytes(
                $"GET /cluster/stores/{store} HTTP/1.1\r\nHost: {NodeName.ControlHost}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"), bound.Token);
            var status = await StatusAsync(tls, bound.Token);
            return status.StartsWith("HTTP/1.1 101 ", StringComparison.Ordinal) ? tls : throw new IOException($"it answers {status}");
        }
        catch
        {
            if (tls is not null)
                await tls.DisposeAsync();
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Reads to the end of the header and no byte further: what follows is the store's.</summary>
    private static async Task<string> StatusAsync(Stream stream, CancellationToken cancel)
    {
        var header = new byte[MaxHeader];
        for (var length = 0; length < MaxHeader;)
        {
            if (await stream.ReadAsync(header.AsMemory(length, 1), cancel) == 0)
                throw new IOException("it hung up");
            if (header.AsSpan(0, ++length).EndsWith("\r\n\r\n"u8))
                return Encoding.ASCII.GetString(header, 0, length).Split("\r\n")[0];
        }
        throw new IOException("its answer makes no sense");
    }


    [LoggerMessage(Level = LogLevel.Warning, Message = "No tunnel to {Store} of the control machine at {Control}: {Fault}")]
    private static partial void LogFails(ILogger log, string store, string control, string fault);

    [LoggerMessage(Level = LogLevel.Information, Message = "The tunnel to {Store} opens again")]
    private static partial void LogOpens(ILogger log, string store);
}
