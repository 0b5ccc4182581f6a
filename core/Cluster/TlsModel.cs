using Appoxy.Nginx;

namespace Appoxy.Cluster;

/// <summary>How an nginx speaks with those of other machines: by mutual TLS with certificates of routerd's CA.</summary>
/// <param name="Listen">Where the local nginx takes their requests, as <c>0.0.0.0:8445</c>; empty for the global one.</param>
/// <param name="Certificate">A file with this machine's certificate and its key.</param>
/// <param name="Ca">A file with the CA's certificate.</param>
/// <param name="Revoked">A file with the CA's revocation list.</param>
/// <param name="Stamp">Another one whenever a file was replaced, so that nginx reads it again.</param>
public sealed record TlsModel(string Listen, string Certificate, string Ca, string Revoked, string Stamp)
{
    public static TlsModel? Of(NodeIdentity? identity, string listen, NginxSettings nginx) => identity is null ? null
        : nginx.TestPort is null
            ? new TlsModel(listen, identity.CertificateFile, identity.CaFile, identity.RevocationFile, identity.Stamp)
            // An nginx that is but tested may read no key, and the port is taken.
            : new TlsModel($"unix:{Path.Combine(nginx.RunDir, "tls")}", identity.TestFile, identity.CaFile, identity.RevocationFile, identity.Stamp);
}
