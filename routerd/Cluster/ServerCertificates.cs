using System.Security.Cryptography;
using Appoxy.Cluster;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Cluster;

/// <summary>
/// Which machine has which certificate, and which ones are refused: in Postgres, and in this machine's files for while that is away.
/// Looks after routerd's own certificate too.
/// </summary>
internal sealed partial class ServerCertificates(
    CertificateAuthority authority, NodeIdentity identity, ClusterSettings settings, RouterdSettings routerd, NpgsqlDataSource db,
    ILogger<ServerCertificates> log) : Rounds(TimeSpan.FromSeconds(5), log)
{
    private volatile Revocations? revoked;

    /// <summary>What is refused, as last known.</summary>
    public Revocations Revoked => revoked ??= authority.Revoke([]);

    /// <summary>routerd's own identity, which is made, or made anew where it has ended or is another CA's.</summary>
    public static NodeIdentity OpenOwn(CertificateAuthority authority, ClusterSettings settings, RouterdSettings routerd, TimeProvider time)
    {
        if (NodeIdentity.IsThere(settings.Folder))
        {
            var own = NodeIdentity.Open(settings.Folder, time);
            if (File.ReadAllText(own.CaFile).Trim() == authority.Pem.Trim() && own.Fault(own.Certificate, null, Roles.Control) is null)
                return own;
        }
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var certificate = authority.Sign(NodeIdentity.Request(key), new NodeName(routerd.Name, Roles.Control), settings.CertificateTime);
        // What was revoked is read from Postgres at once; until then it is what the CA signed last.
        return NodeIdentity.Create(settings.Folder, authority.Pem, key, certificate.ExportCertificatePem(), authority.Revoke([]), time);
    }

    /// <summary>Signs a machine's key and notes the certificate.</summary>
    /// <returns>The certificate, PEM.</returns>
    /// <exception cref="Problem">400: it is no request.</exception>
    public async Task<string> IssueAsync(NpgsqlConnection connection, NodeName name, string? request, CancellationToken cancel)
    {
        using var certificate = authority.Sign(request, name, settings.CertificateTime);
        await connection.RunAsync(
            "insert into server_certificates (serial, server, role, not_after) values (@SerialNumber, @Name, @Role, @NotAfter)",
            new { certificate.SerialNumber, name.Name, name.Role, NotAfter = certificate.NotAfter.ToUniversalTime() }, cancel);
        LogIssued(log, name, certificate.SerialNumber, certificate.NotAfter.ToUniversalTime());
        return certificate.ExportCertificatePem();
    }

    /// <summary>Refuses all certificates that a machine has, from now on and everywhere within seconds.</summary>
    /// <returns>How many there were.</returns>
    public async Task<int> RevokeAsync(string name, CancellationToken cancel)
    {
        var count = await db.RunAsync(
            "update server_certificates set revoked_at = now() where server = @name and revoked_at is null and not_after > now()",
            new { name }, cancel);
        await RefreshAsync(cancel);
        LogRevoked(log, name, count);
        return count;
    }

    /// <summary>Learns what is refused.</summary>
    public async Task RefreshAsync(CancellationToken cancel)
    {
        var serials = await db.ListAsync<string>(
            "select serial from server_certificates where revoked_at is not null and not_after > now() - interval '1 day' order by serial",
            null, cancel);
        var now = authority.Revoke(serials);
        identity.Revoke(now);
        revoked = now;
    }

    protected override async Task RoundAsync(CancellationToken cancel)
    {
        if (identity.IsDue)
        {
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            using var certificate = authority.Sign(NodeIdentity.Request(key), new NodeName(routerd.Name, Roles.Control), settings.CertificateTime);
            identity.Renew(key, certificate.ExportCertificatePem());
        }
        await RefreshAsync(cancel);
        await db.RunAsync("delete from server_certificates where not_after < now() - interval '30 days'", null, cancel);
        await db.RunAsync("delete from join_tokens where expires_at < now() - interval '30 days'", null, cancel);
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Signed a certificate for {Name}: {Serial}, until {End:u}")]
    private static partial void LogIssued(ILogger log, NodeName name, string serial, DateTime end);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Revoked {Count} certificates of {Name}")]
    private static partial void LogRevoked(ILogger log, string name, int count);
}
