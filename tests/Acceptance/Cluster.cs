using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using Appoxy.Cluster;

namespace Appoxy.Tests;

/// <summary>
/// Machines beside the install's, which lets them join: each a network namespace with a Docker, nginx and daemons of its own, set up
/// by provision.sh. They are plugged into a switch, which is a namespace too, so that no rule of this machine is in their way.
/// </summary>
internal sealed class Cluster : IAsyncDisposable
{
    private readonly Install install;
    private readonly string id = RandomNumberGenerator.GetHexString(5, lowercase: true);
    private readonly int n = RandomNumberGenerator.GetInt32(1, 250);
    private readonly List<Machine> machines = [];

    private Cluster(Install install) => this.install = install;

    public int Port { get; } = Install.FreePort();

    public string Address => AddressOf(1);

    private string Switch => $"ax{id}sw";

    /// <summary>Lets machines join the install; or, if it does not run, has but the cables ready.</summary>
    public static async Task<Cluster> OpenAsync(Install install)
    {
        var cluster = new Cluster(install);
        try
        {
            await cluster.MustAsync("ip", "netns", "add", cluster.Switch);
            await cluster.MustAsync("ip", "-n", cluster.Switch, "link", "add", "name", "br0", "type", "bridge");
            await cluster.MustAsync("ip", "-n", cluster.Switch, "link", "set", "br0", "up");
            await cluster.PlugAsync(1, null);
            if (install.Token.Length == 0)
                return cluster;
            var ran = await install.ProvisionAsync("--prefix", install.Prefix, "--cluster-port", $"{cluster.Port}", "--address", cluster.Address);
            Assert.True(ran.ExitCode == 0, ran.ToString());
            return cluster;
        }
        catch
        {
            await cluster.DisposeAsync();
            throw;
        }
    }

    /// <summary>A join token, as <c>appoxy servers join-token</c> prints it.</summary>
    public async Task<IssuedJoinToken> TokenAsync(params string[] options) => JsonSerializer.Deserialize(
        await install.MustAsync(["servers", "join-token", "--json", .. options]), AppoxyJson.Default.IssuedJoinToken)!;

    /// <summary>A new machine, on which nothing runs yet.</summary>
    public async Task<Machine> MachineAsync()
    {
        var number = machines.Count + 2;
        var machine = new Machine(install, $"ax{id}m{number}", AddressOf(number));
        machines.Add(machine);
        await MustAsync("ip", "netns", "add", machine.Namespace);
        await MustAsync("ip", "-n", machine.Namespace, "link", "set", "lo", "up");
        await PlugAsync(number, machine.Namespace);
        await MustAsync("ip", "-n", machine.Namespace, "route", "add", "default", "via", Address);
        return machine;
    }

    /// <summary>Cuts a machine off, or plugs it in again.</summary>
    public Task LinkAsync(Machine machine, bool up) =>
        MustAsync("ip", "-n", Switch, "link", "set", $"p{machines.IndexOf(machine) + 2}", up ? "up" : "down");

    public async ValueTask DisposeAsync()
    {
        foreach (var machine in machines)
            await machine.DisposeAsync();
        await install.RunAsync("ip", ["link", "delete", PlugOf(1)]);
        await install.RunAsync("ip", ["netns", "delete", Switch]);
    }

    private string PlugOf(int number) => $"ax{id}p{number}";

    private string AddressOf(int number) => $"10.77.{n}.{number}";

    private async Task PlugAsync(int number, string? into)
    {
        var (port, plug) = ($"p{number}", PlugOf(number));
        await MustAsync("ip", "link", "add", plug, "type", "veth", "peer", "name", port, "netns", Switch);
        await MustAsync("ip", "-n", Switch, "link", "set", port, "master", "br0", "up");
        if (into is not null)
            await MustAsync("ip", "link", "set", plug, "netns", into, "name", "eth0");
        string[] there = into is null ? ["ip"] : ["ip", "-n", into];
        var device = into is null ? plug : "eth0";
        await MustAsync([.. there, "addr", "add", $"{AddressOf(number)}/24", "dev", device]);
        await MustAsync([.. there, "link", "set", device, "up"]);
    }

    private async Task MustAsync(params string[] command)
    {
        var ran = await install.RunAsync(command[0], command[1..]);
        Assert.True(ran.ExitCode == 0, $"{string.Join(' ', command)}: {ran}");
    }
}

/// <summary>One machine of a <see cref="Cluster"/>.</summary>
internal sealed class Machine(Install install, string name, string address) : IAsyncDisposable
{
    public string Namespace => name;

    public string Address => address;

    public string Prefix { get; } = "/tmp/" + name;

    public string Docker => $"unix://{Prefix}/run/appoxy/docker.sock";

    /// <summary>provision.sh on it, without the time that building droidd anew would take.</summary>
    public async Task<Ran> ProvisionAsync(params string[] arguments)
    {
        var built = $"{Prefix}/usr/lib/appoxy/versions";
        if (install.Token.Length > 0 && !Directory.Exists(built))
        {
            Directory.CreateDirectory(built);
            var version = Path.GetFileName(new FileInfo($"{install.Prefix}/usr/lib/appoxy/droidd").LinkTarget!);
            await install.RunAsync("cp", ["-r", $"{install.Prefix}/usr/lib/appoxy/versions/{version}", built]);
            File.CreateSymbolicLink($"{Prefix}/usr/lib/appoxy/droidd", $"versions/{version}");
        }
        return await RunAsync([Path.Combine(install.Repository, "provision.sh"), "--prefix", Prefix, .. arguments]);
    }

    /// <summary>Not by <c>ip netns exec</c>, which hides the control groups that dockerd needs.</summary>
    public Task<Ran> RunAsync(params string[] command) => install.RunAsync("nsenter", [$"--net=/run/netns/{name}", .. command]);

    public async Task ServiceAsync(string service, string verb)
    {
        var ran = await install.RunAsync("sv", ["-w", "20", verb, $"{Prefix}/var/lib/appoxy/services/{service}"]);
        Assert.True(ran.ExitCode == 0, ran.ToString());
    }

    /// <summary>Kills all that runs on it at once, its supervisor first.</summary>
    public async Task KillAsync()
    {
        var supervisor = File.ReadAllText($"{Prefix}/run/appoxy/runsvdir.pid").Trim();
        await install.RunAsync("kill", ["-KILL", supervisor]);
        // Whatever is in its network is its own.
        var ran = await install.RunAsync("sh", ["-c", $"ip netns pids {name} | xargs -r kill -KILL"]);
        Assert.True(ran.ExitCode is 0 or 123, ran.ToString());
        await Install.EventuallyAsync(async () => (await install.RunAsync("ip", ["netns", "pids", name])).Output.Trim().Length == 0, TimeSpan.FromSeconds(10));
    }

    public string Log(string service) => File.ReadAllText($"{Prefix}/var/log/appoxy/{service}/current");

    public async ValueTask DisposeAsync()
    {
        await RunAsync(Path.Combine(install.Repository, "provision.sh"), "--prefix", Prefix, "--uninstall");
        await install.RunAsync("ip", ["netns", "delete", name]);
    }
}

/// <summary>Certificates as a cluster's CA makes them, or somebody who would pass for it.</summary>
internal static class Certificates
{
    /// <summary>The install's own CA, key and all.</summary>
    public static X509Certificate2 Authority(Install install) =>
        X509Certificate2.CreateFromPemFile($"{install.Prefix}/var/lib/appoxy/routerd/ca/ca.pem");

    /// <summary>Another CA, of the same name.</summary>
    public static X509Certificate2 Forged(X509Certificate2 like)
    {
        var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest(like.SubjectName, key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, true, 0, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        return request.CreateSelfSigned(like.NotBefore, like.NotAfter);
    }

    /// <summary>A certificate and its key.</summary>
    public static X509Certificate2 Leaf(X509Certificate2 authority, NodeName name, DateTimeOffset from, DateTimeOffset until)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest(name.Subject, key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid("1.3.6.1.5.5.7.3.1"), new Oid("1.3.6.1.5.5.7.3.2")], false));
        request.CertificateExtensions.Add(X509AuthorityKeyIdentifierExtension.CreateFromCertificate(authority, true, false));
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(name.Host);
        request.CertificateExtensions.Add(names.Build());
        byte[] serial = [0x41, .. RandomNumberGenerator.GetBytes(15)];
        // Not by the CA's certificate, with which .NET signs for no time before its own.
        using var signer = authority.GetECDsaPrivateKey()!;
        using var bare = request.Create(authority.SubjectName, X509SignatureGenerator.CreateForECDsa(signer), from, until, serial);
        return bare.CopyWithPrivateKey(key);
    }

    /// <summary>Key and certificate as a machine keeps them.</summary>
    public static string Pem(X509Certificate2 certificate)
    {
        using var key = certificate.GetECDsaPrivateKey()!;
        return $"{key.ExportPkcs8PrivateKeyPem()}\n{certificate.ExportCertificatePem()}\n";
    }

    /// <summary>A request by TLS, whoever answers; what was answered, and the certificate that was shown.</summary>
    public static async Task<(HttpStatusCode Status, string Body, string Serial)> AskAsync(
        string url, X509Certificate2? with, string? body = null, string? host = null)
    {
        var serial = "";
        using var handler = new SocketsHttpHandler { UseProxy = false, ConnectTimeout = TimeSpan.FromSeconds(5) };
        handler.SslOptions.RemoteCertificateValidationCallback = (_, shown, _, _) =>
        {
            serial = ((X509Certificate2)shown!).SerialNumber;
            return true;
        };
        handler.SslOptions.LocalCertificateSelectionCallback = (_, _, _, _, _) => with!;
        using var http = new HttpClient(handler) { Timeout = TimeSpan.FromSeconds(20) };
        using var request = new HttpRequestMessage(body is null ? HttpMethod.Get : HttpMethod.Post, url);
        request.Headers.Host = host;
        if (body is not null)
            request.Content = new StringContent(body, System.Text.Encoding.UTF8, "application/json");
        using var response = await http.SendAsync(request);
        return (response.StatusCode, await response.Content.ReadAsStringAsync(), serial);
    }
}
