using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Appoxy.Cluster;

namespace Appoxy.Routerd.Cluster;

/// <summary>
/// The CA of this cluster: a key that is made at the first start, lies in a folder of its own, and is never sent anywhere.
/// Whoever loses it has to let every machine join anew.
/// </summary>
internal sealed class CertificateAuthority : IDisposable
{
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private static readonly TimeSpan Backdated = TimeSpan.FromMinutes(5);

    private readonly X509Certificate2 certificate;
    private readonly TimeProvider time;
    private readonly string folder;

    private CertificateAuthority(string folder, X509Certificate2 certificate, TimeProvider time) =>
        (this.folder, this.certificate, this.time) = (folder, certificate, time);

    /// <summary>The certificate, PEM.</summary>
    public string Pem => certificate.ExportCertificatePem();

    /// <summary>SHA-256 of the certificate (DER), in hex.</summary>
    public string Fingerprint => Convert.ToHexStringLower(SHA256.HashData(certificate.RawData));

    /// <summary>The CA in this folder, which is made if there is none.</summary>
    /// <exception cref="IOException">The folder can't be read or written.</exception>
    /// <exception cref="InvalidDataException">What lies there is no CA.</exception>
    public static CertificateAuthority Open(string folder, TimeProvider time)
    {
        var path = Path.Combine(folder, "ca.pem");
        try
        {
            if (!File.Exists(path))
                Make(folder, path, time);
            return new CertificateAuthority(folder, X509Certificate2.CreateFromPemFile(path), time);
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException)
        {
            throw new InvalidDataException($"{path} holds no key and certificate of a CA ({e.Message}); bring it back from a backup", e);
        }
    }

    private static void Make(string folder, string path, TimeProvider time)
    {
        Directory.CreateDirectory(folder, OwnerOnly | UnixFileMode.UserExecute);
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("O=Appoxy, CN=Appoxy cluster CA", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, true, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        var now = time.GetUtcNow();
        using var made = request.CreateSelfSigned(now - Backdated, now.AddYears(20));
        NodeIdentity.Write(path, $"{key.ExportPkcs8PrivateKeyPem()}\n{made.ExportCertificatePem()}\n", OwnerOnly);
    }

    /// <summary>Signs a machine's key.</summary>
    /// <param name="requestPem">A certificate signing request, of which nothing but the key counts.</param>
    /// <param name="name">Whom the certificate is to speak for.</param>
    /// <param name="life">How long it holds.</param>
    /// <exception cref="Problem">400: it is no request, or of no P-256 key.</exception>
    public X509Certificate2 Sign(string? requestPem, NodeName name, TimeSpan life)
    {
        var key = KeyOf(requestPem);
        var request = new CertificateRequest(name.Subject, key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature, true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension(
            [new Oid("1.3.6.1.5.5.7.3.1"), new Oid("1.3.6.1.5.5.7.3.2")], false));
        request.CertificateExtensions.Add(X509AuthorityKeyIdentifierExtension.CreateFromCertificate(certificate, true, false));
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(name.Host);
        request.CertificateExtensions.Add(names.Build());
        var serial = RandomNumberGenerator.GetBytes(16);
        // Positive, and without a leading zero that some write and some do not.
        serial[0] = (byte)(0x40 | (serial[0] & 0x3f));
        var now = time.GetUtcNow();
        return request.Create(certificate, now - (life / 10 < Backdated ? life / 10 : Backdated), now + life, serial);
    }

    /// <summary>Signs what was revoked; the same list as before is the same text, so that nothing is reloaded for it.</summary>
    public Revocations Revoke(IReadOnlyList<string> serials)
    {
        var (list, known) = (Path.Combine(folder, "revoked.pem"), Path.Combine(folder, "revoked.serials"));
        var wanted = string.Join('\n', serials.Order(StringComparer.Ordinal)) + "\n";
        if (!File.Exists(list) || !File.Exists(known) || File.ReadAllText(known) != wanted)
        {
            var now = time.GetUtcNow();
            var builder = new CertificateRevocationListBuilder();
            foreach (var serial in serials)
                builder.AddEntry(Convert.FromHexString(serial), now);
            // It holds until there is another: a list that ends would cut machines off while the control machine is away.
            var signed = builder.Build(certificate, now.ToUnixTimeMilliseconds(), now.AddYears(20), HashAlgorithmName.SHA256, null, now - Backdated);
            NodeIdentity.Write(list, PemEncoding.WriteString("X509 CRL", signed) + "\n", OwnerOnly);
            NodeIdentity.Write(known, wanted, OwnerOnly);
        }
        return new Revocations([.. serials], File.ReadAllText(list));
    }

    private static PublicKey KeyOf(string? requestPem)
    {
        if (requestPem is not { Length: > 0 and < 10_000 })
            throw Problem.BadRequest("request must be a certificate signing request, PEM.");
        try
        {
            var key = CertificateRequest.LoadSigningRequestPem(requestPem, HashAlgorithmName.SHA256).PublicKey;
            using var ecdsa = key.GetECDsaPublicKey();
            return ecdsa?.KeySize == 256 ? key : throw Problem.BadRequest("request must be of an ECDSA key on P-256.");
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException)
        {
            throw Problem.BadRequest("request must be a certificate signing request, PEM.");
        }
    }

    public void Dispose() => certificate.Dispose();
}
