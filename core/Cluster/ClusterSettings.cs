namespace Appoxy.Cluster;

/// <summary>The <c>cluster</c> section of <c>routerd.json</c> and <c>droidd.json</c>; without one a machine is alone.</summary>
public sealed class ClusterSettings
{
    /// <summary>Holds this machine's key and certificate, the CA's certificate, and what was revoked.</summary>
    public string Folder { get; set; } = "";

    /// <summary>Where other machines reach this daemon by mutual TLS, as <c>https://0.0.0.0:8443</c>; empty for nowhere.</summary>
    public string Listen { get; set; } = "";

    /// <summary>Of the control machine: what others call it by, as <c>https://192.0.2.1:8443</c>. It stands in join tokens.</summary>
    public string Address { get; set; } = "";

    /// <summary>Of all others: where the control machine's routerd is, as <c>https://192.0.2.1:8443</c>.</summary>
    public string Control { get; set; } = "";

    /// <summary>Of a droid-server: where its local nginx takes requests of other machines' global nginxes, as <c>0.0.0.0:8445</c>.</summary>
    public string NginxListen { get; set; } = "";

    /// <summary>Of the control machine: the folder of the CA, whose key must never be lost.</summary>
    public string CaFolder { get; set; } = "";

    /// <summary>Of the control machine: how long a certificate holds; each machine renews its own at two thirds of it.</summary>
    public string CertificateLife { get; set; } = "30d";

    /// <summary>Of a proxy: ports on 127.0.0.1 that lead to the control machine's Postgres, Redis and API.</summary>
    public int PostgresPort { get; set; }

    public int RedisPort { get; set; }

    public int ApiPort { get; set; }

    /// <summary>Whether this machine is a proxy that joined.</summary>
    public bool IsProxy => PostgresPort > 0;

    internal TimeSpan CertificateTime =>
        TimeSpan.FromSeconds(Quantities.TryParseSeconds(CertificateLife, out var seconds) ? seconds : throw new FormatException(CertificateLife));

    /// <summary>Says what is wrong with these settings, each fault naming its setting and the fix.</summary>
    public IEnumerable<string> Faults()
    {
        if (!Path.IsPathFullyQualified(Folder) || Folder.AsSpan().ContainsAny("\"'\\;{}$\n\r\t "))
            yield return $"cluster:folder is '{Folder}': give an absolute path without spaces, quotes, braces, $ or ;";
        foreach (var (name, address) in new[] { ("listen", Listen), ("address", Address), ("control", Control) })
        {
            if (address.Length > 0 && !IsAddress(address))
                yield return $"cluster:{name} is '{address}': give an address such as https://192.0.2.1:8443";
        }
        if (Listen.Length > 0 && !System.Net.IPEndPoint.TryParse(new Uri(Listen).Authority, out _))
            yield return $"cluster:listen is '{Listen}': give an IP address and a port, such as https://0.0.0.0:8443";
        if (NginxListen.Length > 0 && !System.Net.IPEndPoint.TryParse(NginxListen, out _))
            yield return $"cluster:nginxListen is '{NginxListen}': give an IP address and a port, such as 0.0.0.0:8445";
        if (!Quantities.TryParseSeconds(CertificateLife, out var life) || life < 10)
            yield return $"cluster:certificateLife is '{CertificateLife}': give a time such as 30d";
        if (IsProxy != RedisPort > 0 || IsProxy != ApiPort > 0 || new[] { PostgresPort, RedisPort, ApiPort }.Any(p => p is < 0 or > 65535))
            yield return "cluster:postgresPort, redisPort and apiPort go together: give ports from 1 to 65535";
        if (CaFolder.Length > 0 && !Path.IsPathFullyQualified(CaFolder))
            yield return $"cluster:caFolder is '{CaFolder}': give an absolute path";
    }

    /// <summary>Whether it is <c>https://host:port</c> and no more.</summary>
    public static bool IsAddress(string text) => Uri.TryCreate(text, UriKind.Absolute, out var uri)
        && uri is { Scheme: "https", PathAndQuery: "/", Fragment: "", UserInfo: "" } && text.All(c => c is > ' ' and < '\x7f');
}
