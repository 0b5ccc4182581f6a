using System.Net;
using System.Security.Cryptography.X509Certificates;
using Appoxy.Cluster;
using Appoxy.Routerd.Audits;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Cluster;

/// <summary>What other machines ask of this one, at a port of its own and by mutual TLS: to join, to renew, and to be heard.</summary>
internal static partial class ClusterEndpoints
{
    private const int DroiddPort = 8444;
    private const int NginxPort = 8445;

    public static void MapCluster(this WebApplication app)
    {
        if (app.Services.GetService<CertificateAuthority>() is null)
            return;
        var cluster = app.MapGroup("/cluster").ExcludeFromDescription().OpenToAll();
        cluster.MapGet("/ca", (CertificateAuthority authority) => TypedResults.Text(authority.Pem, "application/x-pem-file"));
        cluster.MapPost("/join", JoinAsync);
        cluster.MapPost("/renew", RenewAsync);
        cluster.MapPost("/heartbeat", HeartbeatAsync);
        cluster.MapGet("/stores/{store}", StoreTunnels.ServeAsync);
    }

    private static async Task<Ok<Joined>> JoinAsync(JoinRequest body, HttpContext http, ServerCertificates certificates, RouterdSettings settings,
        DroidServers servers, NpgsqlDataSource db, ILogger<ServerCertificates> log, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var (name, fault) = body.Secret is { Length: 40 } secret ? await JoinTokens.TakeAsync(connection, secret, cancel)
            : (null, "there is no join token");
        if (name is null)
        {
            LogRefused(log, "join", http.Connection.RemoteIpAddress, fault);
            await Audit.AddAsync(db, new AuditRow
            {
                Operation = "join", Client = http.Connection.RemoteIpAddress?.ToString() ?? "", Status = 401, Detail = fault,
            }, cancel);
            throw new Problem(401, $"Not let in: {fault}.");
        }
        var address = AddressOf(body.Address, http.Connection.RemoteIpAddress);
        // Whoever had this name before is no longer it.
        await connection.RunAsync("update server_certificates set revoked_at = now() where server = @Name and revoked_at is null and not_after > now()",
            name, cancel);
        var certificate = await certificates.IssueAsync(connection, name, body.Request, cancel);
        if (name.Role == Roles.DroidServer)
        {
            await connection.RunAsync("""
                insert into servers (name, address, upstream) values (@Name, @Droidd, @Nginx)
                on conflict (name) do update set address = excluded.address, upstream = excluded.upstream, last_seen = null
                """, new { name.Name, Droidd = $"https://{address}:{DroiddPort}", Nginx = $"https://{address}:{NginxPort}" }, cancel);
        }
        await Audit.AddAsync(connection, new AuditRow
        {
            Operation = "join", Target = $"/v1/servers/{name.Name}", Client = http.Connection.RemoteIpAddress?.ToString() ?? "", Status = 200,
            Detail = name.Role,
        }, cancel);
        await transaction.CommitAsync(cancel);
        await certificates.RefreshAsync(cancel);
        await servers.RefreshAsync(cancel);
        LogJoined(log, name, address);
        return TypedResults.Ok(new Joined
        {
            Name = name.Name, Role = name.Role, Certificate = certificate, Revoked = certificates.Revoked, Domain = settings.Domain, Address = address,
            Proxy = name.Role == Roles.Proxy ? Proxy(settings) : null,
        });
    }

    private static async Task<Ok<Renewed>> RenewAsync(
        Renewal body, HttpContext http, ServerCertificates certificates, NpgsqlDataSource db, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        return TypedResults.Ok(new Renewed(await certificates.IssueAsync(connection, Peer(http), body.Request, cancel)));
    }

    private static async Task<Ok<HeartbeatAnswer>> HeartbeatAsync(Heartbeat body, HttpContext http, ServerCertificates certificates,
        NpgsqlDataSource db, TimeProvider time, CancellationToken cancel)
    {
        var peer = Peer(http);
        var beat = System.Text.Json.JsonSerializer.Serialize(body, ClusterJson.Default.Heartbeat);
        if (peer.Role == Roles.DroidServer && await db.RunAsync(
                "update servers set last_seen = now(), heartbeat = @beat::jsonb where name = @Name", new { peer.Name, beat }, cancel) == 0)
            throw Problem.Forbidden($"There is no droid-server {peer.Name} any more; join anew.");
        return TypedResults.Ok(new HeartbeatAnswer(certificates.Revoked, time.GetUtcNow()));
    }

    private static JoinedProxy Proxy(RouterdSettings settings)
    {
        var postgres = new NpgsqlConnectionStringBuilder(settings.Postgres);
        return new JoinedProxy(postgres.Database ?? "", postgres.Username ?? "", postgres.Password ?? "");
    }

    /// <summary>Whom <see cref="ClusterListener"/> has let in.</summary>
    private static NodeName Peer(HttpContext http) =>
        NodeName.Of(http.Connection.ClientCertificate!) ?? throw new InvalidOperationException("a peer without a name was let in");

    private static string AddressOf(string? given, IPAddress? from)
    {
        if (given is { Length: > 0 })
            return IPAddress.TryParse(given, out var ip) ? Bracketed(ip) : Names.TryNormalizeHost(given, out var host) ? host
                : throw Problem.BadRequest("address must be an IP address or a DNS name.");
        return Bracketed(from ?? throw Problem.BadRequest("address is needed."));

        static string Bracketed(IPAddress ip) => (ip.IsIPv4MappedToIPv6 ? ip.MapToIPv4() : ip) is var plain
            && plain.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6 ? $"[{plain}]" : plain.ToString();
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "Refused {Path} from {Peer}: {Fault}")]
    public static partial void LogRefused(ILogger log, string path, IPAddress? peer, string fault);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Name} has joined, at {Address}")]
    private static partial void LogJoined(ILogger log, NodeName name, string address);
}
