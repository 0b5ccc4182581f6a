using System.Security.Cryptography.X509Certificates;

namespace Appoxy.Cluster;

/// <summary>What a machine is in a cluster.</summary>
public static class Roles
{
    /// <summary>Has the CA, Postgres and Redis, and says what is wanted.</summary>
    public const string Control = "control";

    /// <summary>Visitors come in there.</summary>
    public const string Proxy = "proxy";

    /// <summary>Apps run there.</summary>
    public const string DroidServer = "droid-server";
}

/// <summary>Whom a certificate speaks for: the subject is <c>O=role, CN=name</c>, and the DNS name is made of both.</summary>
/// <param name="Name">As <c>ds2</c>.</param>
/// <param name="Role">One of <see cref="Roles"/>.</param>
public sealed record NodeName(string Name, string Role)
{
    private const string OrganizationOid = "2.5.4.10";
    private const string CommonNameOid = "2.5.4.3";

    /// <summary>By this name its certificate is checked, wherever it is reached: <c>ds2.servers.appoxy</c>.</summary>
    public string Host => Role == Roles.Control ? ControlHost : $"{Name}.{(Role == Roles.Proxy ? "proxies" : "servers")}.appoxy";

    /// <summary>There is but one machine that has the CA.</summary>
    public const string ControlHost = "control.appoxy";

    public X500DistinguishedName Subject
    {
        get
        {
            var subject = new X500DistinguishedNameBuilder();
            subject.AddOrganizationName(Role);
            subject.AddCommonName(Name);
            return subject.Build();
        }
    }

    /// <summary>Null where the subject is none of ours.</summary>
    public static NodeName? Of(X509Certificate2 certificate)
    {
        var parts = certificate.SubjectName.EnumerateRelativeDistinguishedNames().Where(p => !p.HasMultipleElements)
            .ToLookup(p => p.GetSingleElementType().Value, p => p.GetSingleElementValue());
        return (parts[CommonNameOid].ToList(), parts[OrganizationOid].ToList()) is ([{ } name], [{ } role]) && Names.IsServerName(name)
            && role is Roles.Control or Roles.Proxy or Roles.DroidServer ? new NodeName(name, role) : null;
    }

    public override string ToString() => $"{Role} {Name}";
}
