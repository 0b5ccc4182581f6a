using System.Net;
using System.Net.Sockets;

namespace Appoxy.Tests.Acceptance;

[Collection(SecondLane.Name)]
public sealed class IsolationTests(Install install) : ShopTests(install)
{
    private readonly Tenant tenant = new(install);

    public override async Task InitializeAsync()
    {
        await base.InitializeAsync();
        await tenant.InitializeAsync();
    }

    /// <summary>Whether this machine itself can connect: else that a container can't would say nothing.</summary>
    private static async Task<bool> ListensAsync(string target)
    {
        using var socket = new TcpClient();
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(3));
        try
        {
            await socket.ConnectAsync(IPEndPoint.Parse(target), limit.Token);
            return true;
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException)
        {
            return false;
        }
    }

    private Task<string> BridgeAsync() => Targets.BridgeAsync(Install, "droid-net");

    private async Task<string> GatewayAsync() => (await Install.RunAsync("ip", ["-4", "-o", "addr", "show", await BridgeAsync()]))
        .Output.Split(' ', StringSplitOptions.RemoveEmptyEntries)[3].Split('/')[0];

    [Fact]
    public async Task Container_reaches_no_port_of_the_machine_nor_the_metadata_address_nor_another_droid()
    {
        await Install.GetAsync(Shop.Host);
        // For all addresses, so that only the rules keep the container out.
        using var open = new TcpListener(IPAddress.Any, 0);
        open.Start();
        var gateway = await GatewayAsync();
        var own = $"{gateway}:{((IPEndPoint)open.LocalEndpoint).Port}";
        var neighbour = (await Install.DroidAsync("shop")).Live!.Address;
        Assert.True(await ListensAsync(own) && await ListensAsync(neighbour));
        var ports = new[] { "database_url", "redis" }.Select(k => new Uri(Install.Installed(k)).Port).Append(Install.ConsolePort);
        var sockets = new[] { "/var/run/docker.sock", $"{Install.Prefix}/run/appoxy/docker.sock", $"{Install.Prefix}/run/appoxy/droidd.sock" };
        var host = await Targets.HostAsync(Install);
        Assert.Contains(host, t => t == own);
        string[] targets = [.. host, .. ports.Select(p => $"{gateway}:{p}"), "169.254.169.254:80", "100.100.100.200:80", neighbour, .. sockets];
        var reached = await tenant.ReachAsync(targets.Distinct());
        Assert.Equal(targets.Distinct().Count(), reached.Count);
        Assert.DoesNotContain(reached, r => r.Value == "open");
        // Refused by our rules, at once, where without them nobody would have answered.
        Assert.Equal("ECONNREFUSED", (await tenant.ReachAsync(["169.254.169.254:80"])).Values.Single());
        // Apps find each other where visitors come in.
        Assert.Equal("open", (await tenant.ReachAsync([$"{gateway}:{Install.HttpPort}"])).Values.Single());
    }

    [Fact]
    public void Step_of_a_build_reaches_no_port_of_the_machine()
    {
        var told = Targets.Read(string.Join('\n', tenant.Log.Split('\n').Where(l => l.Contains(':', StringComparison.Ordinal)
            && (l.EndsWith("open", StringComparison.Ordinal) || l.Trim().Split(' ') is [_, ['E', ..]]))));
        Assert.Contains(told.Keys, t => t.EndsWith($":{Install.ConsolePort}", StringComparison.Ordinal));
        Assert.DoesNotContain(told, t => t.Value == "open");
    }

    [Fact]
    public async Task Container_reaches_the_internet_and_names_but_no_private_network_behind_the_machine()
    {
        await using var outside = await Outside.OpenAsync(Install);
        foreach (var target in outside.All)
            Assert.True(await ListensAsync(target), target);
        var reached = await tenant.ReachAsync(outside.All);
        Assert.Equal("open", reached[outside.Public]);
        Assert.Equal("ECONNREFUSED", reached[outside.Private]);
        Assert.Equal("ECONNREFUSED", reached[outside.LinkLocal]);
        Assert.NotEqual("open", reached[outside.OtherNetwork]);
        Assert.Matches(@"^\d+\.\d+\.\d+\.\d+$", await tenant.AskAsync(HttpMethod.Get, "lookup/" + (await Install.DroidAsync("tenant")).Uid));
        if ((await Dns.GetHostAddressesAsync("deb.debian.org")).Length > 0)
            Assert.NotEmpty(await tenant.AskAsync(HttpMethod.Get, "lookup/deb.debian.org"));
    }

    [Fact]
    public async Task Rules_that_somebody_flushes_come_back()
    {
        var gateway = await GatewayAsync();
        var target = $"{gateway}:{Install.ConsolePort}";
        var table = new[] { "iptables", "iptables-legacy" };
        using var open = new TcpListener(IPAddress.Any, 0);
        open.Start();
        var own = $"{gateway}:{((IPEndPoint)open.LocalEndpoint).Port}";
        var bridge = await BridgeAsync();
        foreach (var tool in table)
            await Install.RunAsync(tool, ["-w", "5", "-D", "INPUT", "-i", bridge, "-j", bridge + ".host"]);
        Assert.Equal("open", (await tenant.ReachAsync([own])).Values.Single());
        await Install.EventuallyAsync(async () => (await tenant.ReachAsync([own])).Values.Single() == "ECONNREFUSED", TimeSpan.FromSeconds(25));
        Assert.NotEqual("open", (await tenant.ReachAsync([target])).Values.Single());
    }

    [Fact]
    public async Task Container_has_few_rights_and_bounded_resources()
    {
        var rights = await tenant.AskAsync(HttpMethod.Get, "rights");
        Assert.StartsWith("65534 ", rights, StringComparison.Ordinal);
        Assert.Matches(@"NoNewPrivs:\s+1", rights);
        Assert.Matches(@"Seccomp:\s+2", rights);
        // chown, dac_override, fowner, kill, setgid, setuid and net_bind_service, and no net_raw.
        Assert.Matches(@"CapBnd:\s+00000000000004eb\n", rights);
        Assert.Matches(@"Max open files\s+\d{4,5}\s+\d{4,5}\s", rights);
        var config = (await Install.DockerAsync("inspect", "-f",
            "{{.HostConfig.PidsLimit}} {{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.Privileged}} {{len .HostConfig.Devices}} {{.HostConfig.Binds}}",
            (await Install.DroidAsync("tenant")).Uid)).Output.Trim();
        Assert.Equal($"256 {256 << 20} {256 << 20} false 0 []", config);
    }
}
