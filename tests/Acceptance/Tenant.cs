namespace Appoxy.Tests;

/// <summary>The app <c>tenant</c> (tests/apps/tenant), which does what it is told, deployed once for all tests that use it.</summary>
public sealed class Tenant(Install install) : IAsyncLifetime
{
    public const string Host = "tenant.localhost";

    /// <summary>What its deployment printed.</summary>
    public string Log => install.TenantLog!;

    public async Task InitializeAsync()
    {
        if (install.TenantLog is not null)
            return;
        var folder = new Folder(install, "tenant", "tenant").Write("targets.txt", string.Join('\n', await Targets.HostAsync(install)) + "\n");
        await install.MustAsync("apps", "create", "tenant");
        await install.MustAsync("settings", "tenant", "memory=256m", "disk=192m");
        install.TenantLog = await install.MustAsync("deploy", "tenant", folder.Path);
    }

    public Task DisposeAsync() => Task.CompletedTask;

    public async Task<string> AskAsync(HttpMethod method, string path, string? body = null)
    {
        using var http = install.Site(Host);
        using var request = new HttpRequestMessage(method, path) { Content = body is null ? null : new StringContent(body) };
        using var response = await http.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, $"{method} {path}: {(int)response.StatusCode} {text}");
        return text;
    }

    /// <summary>Tries to connect to each target from within the container: target → <c>open</c> or the error.</summary>
    public async Task<Dictionary<string, string>> ReachAsync(IEnumerable<string> targets) =>
        Targets.Read(await AskAsync(HttpMethod.Post, "reach", string.Join('\n', targets)));
}

/// <summary>What a container should not reach.</summary>
internal static class Targets
{
    /// <summary>Each port that listens on this machine, at each of its addresses but those of loopback, which are a container's own.</summary>
    public static async Task<IReadOnlyList<string>> HostAsync(Install install)
    {
        var bridges = new List<string>();
        foreach (var network in new[] { "droid-net", "droid-build" })
            bridges.Add(await BridgeAsync(install, network));
        var ports = (await install.RunAsync("ss", ["-Hltn"])).Output.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[3].Split(':')[^1]).Distinct()
            // Where visitors come in.
            .Where(port => port != $"{install.HttpPort}").ToList();
        var addresses = System.Net.NetworkInformation.NetworkInterface.GetAllNetworkInterfaces()
            .Select(i => (i.Name, Ip: i.GetIPProperties().UnicastAddresses.Select(a => a.Address)
                .FirstOrDefault(a => a.AddressFamily == System.Net.Sockets.AddressFamily.InterNetwork && !System.Net.IPAddress.IsLoopback(a))))
            .Where(i => i.Ip is not null).OrderByDescending(i => bridges.Contains(i.Name)).Take(8).Select(i => i.Ip!.ToString());
        return [.. addresses.Distinct().SelectMany(a => ports.Select(p => $"{a}:{p}"))];
    }

    public static async Task<string> BridgeAsync(Install install, string network)
    {
        var seen = (await install.DockerAsync("network", "inspect", "-f",
            "{{index .Options \"com.docker.network.bridge.name\"}} br-{{slice .Id 0 12}}", network)).Output.Trim();
        return seen.Split(' ')[0];
    }

    public static Dictionary<string, string> Read(string told) => told.Split('\n', StringSplitOptions.RemoveEmptyEntries)
        .Select(line => line.Trim().Split(' ')).Where(words => words.Length == 2).ToDictionary(words => words[0], words => words[1]);
}
