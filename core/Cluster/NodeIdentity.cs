using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;

namespace Appoxy.Cluster;

/// <summary>
/// This machine's key and certificate, the CA that it trusts, and what was revoked: files in one folder, which nginx, Postgres and
/// Redis read too. Key and certificate are one file, so that a renewal is one rename and never leaves half of each.
/// </summary>
public sealed class NodeIdentity
{
    private const string ServerUse = "1.3.6.1.5.5.7.3.1";
    private const string ClientUse = "1.3.6.1.5.5.7.3.2";
    private const UnixFileMode Private = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode Public = Private | UnixFileMode.GroupRead | UnixFileMode.OtherRead;

    private readonly string folder;
    private readonly TimeProvider time;
    private readonly X509Certificate2 ca;
    private volatile X509Certificate2 own;
    private volatile IReadOnlySet<string> revoked;

    private NodeIdentity(string folder, TimeProvider time)
    {
        (this.folder, this.time) = (folder, time);
        ca = X509Certificate2.CreateFromPem(File.ReadAllText(CaFile));
        own = ReadOwn();
        revoked = ReadRevoked();
    }

    /// <summary>Key and certificate, PEM; root's alone.</summary>
    public string CertificateFile => Path.Combine(folder, "node.pem");

    /// <summary>The CA's certificate, PEM.</summary>
    public string CaFile => Path.Combine(folder, "ca.pem");

    /// <summary>What was revoked, as a certificate revocation list, PEM.</summary>
    public string RevocationFile => Path.Combine(folder, "revoked.pem");

    /// <summary>A key and certificate that nobody trusts, for an nginx that is but tested and may read no secret.</summary>
    public string TestFile => Path.Combine(folder, "test.pem");

    public X509Certificate2 Certificate => own;

    /// <summary>What changes whenever one of the files does that nginx has read.</summary>
    public string Stamp => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(
        $"{own.SerialNumber} {ca.SerialNumber} {string.Join(' ', revoked.Order(StringComparer.Ordinal))}")))[..12];

    /// <summary>Whether two thirds of the certificate's life are over.</summary>
    public bool IsDue => time.GetUtcNow().UtcDateTime > own.NotAfter.ToUniversalTime() - ((own.NotAfter - own.NotBefore) / 3);

    /// <exception cref="IOException">The files are not there, or can't be read.</exception>
    /// <exception cref="InvalidDataException">They are no keys and certificates.</exception>
    public static NodeIdentity Open(string folder, TimeProvider time)
    {
        try
        {
            return new NodeIdentity(folder, time);
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException or JsonException)
        {
            throw new InvalidDataException($"{folder} holds no certificates that can be used ({e.Message}); join anew", e);
        }
    }

    /// <summary>Makes the files of a machine that has joined, or of the control machine.</summary>
    public static NodeIdentity Create(string folder, string caPem, ECDsa key, string certificatePem, Revocations revoked, TimeProvider time)
    {
        Directory.CreateDirectory(folder);
        Write(Path.Combine(folder, "ca.pem"), caPem, Public);
        WriteRevoked(folder, revoked);
        using (var testKey = ECDsa.Create(ECCurve.NamedCurves.nistP256))
        using (var test = new CertificateRequest("CN=test", testKey, HashAlgorithmName.SHA256)
            .CreateSelfSigned(time.GetUtcNow().AddDays(-1), time.GetUtcNow().AddYears(20)))
            Write(Path.Combine(folder, "test.pem"), Pair(testKey, test.ExportCertificatePem()), Public);
        // Last: by this file the machine has joined.
        Write(Path.Combine(folder, "node.pem"), Pair(key, certificatePem), Private);
        return Open(folder, time);
    }

    /// <summary>Whether a machine of this folder has joined.</summary>
    public static bool IsThere(string folder) => File.Exists(Path.Combine(folder, "node.pem"));

    /// <summary>A certificate signing request, PEM.</summary>
    public static string Request(ECDsa key) =>
        new CertificateRequest("CN=appoxy", key, HashAlgorithmName.SHA256).CreateSigningRequestPem();

    /// <summary>Takes a new key and certificate; connections from now on have it.</summary>
    /// <exception cref="InvalidDataException">It is none for this key, or of another CA.</exception>
    public void Renew(ECDsa key, string certificatePem)
    {
        using var bare = X509Certificate2.CreateFromPem(certificatePem);
        if (Fault(bare, null, Roles.Control, Roles.Proxy, Roles.DroidServer) is { } fault)
            throw new InvalidDataException($"the new certificate can't be used: {fault}");
        Write(CertificateFile, Pair(key, certificatePem), Private);
        own = ReadOwn();
    }

    /// <summary>Takes what was revoked by now; true where that is news.</summary>
    public bool Revoke(Revocations now)
    {
        if (revoked.SetEquals(now.Serials) && File.Exists(RevocationFile))
            return false;
        WriteRevoked(folder, now);
        revoked = ReadRevoked();
        return true;
    }

    /// <summary>What speaks against a peer's certificate; null if nothing.</summary>
    /// <param name="peer">Null where none was given.</param>
    /// <param name="host">The DNS name that it must have; null for any.</param>
    /// <param name="roles">Whom it may speak for.</param>
    public string? Fault(X509Certificate2? peer, string? host, params ReadOnlySpan<string> roles)
    {
        if (peer is null)
            return "it gives no certificate";
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.Add(ca);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.DisableCertificateDownloads = true;
        chain.ChainPolicy.VerificationTimeIgnored = false;
        chain.ChainPolicy.VerificationTime = time.GetUtcNow().UtcDateTime;
        chain.ChainPolicy.ApplicationPolicy.Add(new Oid(host is null ? ClientUse : ServerUse));
        if (!chain.Build(peer))
        {
            var status = chain.ChainStatus.Aggregate(X509ChainStatusFlags.NoError, (all, s) => all | s.Status);
            return status == X509ChainStatusFlags.NotTimeValid ? $"its certificate {peer.SerialNumber} has expired, or is not valid yet"
                : $"its certificate {peer.SerialNumber} is not of this cluster's CA, or not for this ({status})";
        }
        if (revoked.Contains(peer.SerialNumber))
            return $"its certificate {peer.SerialNumber} was revoked";
        if (NodeName.Of(peer) is not { } name)
            return "its certificate names no machine of a cluster";
        if (!roles.Contains(name.Role))
            return $"it is {name}, which may not do this";
        return host is null || peer.MatchesHostname(host) ? null : $"it is {name}, and not {host}";
    }

    /// <summary>How to connect to the machine of this DNS name, whatever address it is reached at.</summary>
    /// <param name="host">As <c>ds2.servers.appoxy</c>.</param>
    /// <param name="role">What it must be.</param>
    /// <param name="told">Told what speaks against a peer.</param>
    public SslClientAuthenticationOptions ClientOptions(string host, string role, Action<string> told) => new()
    {
        EnabledSslProtocols = SslProtocols.Tls13,
        // A resumed session would not be asked for its certificate again.
        AllowTlsResume = false,
        LocalCertificateSelectionCallback = (_, _, _, _, _) => own,
        RemoteCertificateValidationCallback = (_, certificate, _, _) =>
        {
            if (Fault(certificate as X509Certificate2, host, role) is not { } fault)
                return true;
            told(fault);
            return false;
        },
    };

    private X509Certificate2 ReadOwn() => X509Certificate2.CreateFromPemFile(CertificateFile);

    private HashSet<string> ReadRevoked() => File.Exists(SerialsOf(folder))
        ? [.. File.ReadAllLines(SerialsOf(folder)).Where(l => l.Length > 0)] : [];

    private static void WriteRevoked(string folder, Revocations revoked)
    {
        Write(Path.Combine(folder, "revoked.pem"), revoked.List, Public);
        Write(SerialsOf(folder), string.Join('\n', revoked.Serials) + "\n", Public);
    }

    private static string SerialsOf(string folder) => Path.Combine(folder, "revoked.serials");

    private static string Pair(ECDsa key, string certificatePem) => $"{key.ExportPkcs8PrivateKeyPem()}\n{certificatePem.Trim()}\n";

    /// <summary>Writes a file that is whole at any moment.</summary>
    internal static void Write(string path, string text, UnixFileMode mode)
    {
        var next = path + ".next";
        File.Delete(next);
        using (var file = new FileStream(next, new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, UnixCreateMode = mode }))
        {
            file.Write(Encoding.UTF8.GetBytes(text));
            file.Flush(flushToDisk: true);
        }
        // The umask may have taken bits away.
        File.SetUnixFileMode(next, mode);
        File.Move(next, path, overwrite: true);
    }
}
