namespace Appoxy.Tests;

/// <summary>
/// A second droid-server of an install: another one beside it with a Docker, a droidd and a local nginx of its own, of which the install's
/// routerd is told.
/// </summary>
public sealed class SecondServer : IAsyncDisposable
{
    private readonly Install first;

    private SecondServer(Install first, string name) =>
        (this.first, Name, Own) = (first, name, new Install { Sample = false, ServerName = name });

    public string Name { get; }

    /// <summary>The install that it is; its routerd is not asked for anything.</summary>
    public Install Own { get; }

    public static async Task<SecondServer> StartAsync(Install first, string name = "ds2")
    {
        var server = new SecondServer(first, name);
        // What is published there need not be built again.
        Directory.CreateDirectory($"{server.Own.Prefix}/usr/lib");
        await first.RunAsync("cp", ["-a", $"{first.Prefix}/usr/lib/appoxy", $"{server.Own.Prefix}/usr/lib/appoxy"]);
        await server.Own.InitializeAsync();
        await first.SqlAsync($"insert into servers (name, address, upstream) values ('{name}', 'unix:{server.Own.Prefix}/run/appoxy/droidd.sock', "
            + $"'unix:{server.Own.Prefix}/run/appoxy/local-nginx.sock')");
        await Install.EventuallyAsync(async () => (await File.ReadAllTextAsync($"{first.Prefix}/var/lib/appoxy/nginx/global/current/nginx.conf"))
            .Contains($"upstream {name}.keep", StringComparison.Ordinal), TimeSpan.FromSeconds(30));
        await Install.EventuallyAsync(async () => (await first.ServerAsync(name)) is { State: "up", MemoryBytes: not null }, TimeSpan.FromSeconds(30));
        return server;
    }

    /// <summary>Takes it away as a lost machine is: its droidd, its nginx, its Docker and what that runs.</summary>
    public async Task CutOffAsync()
    {
        foreach (var service in new[] { "droidd", "local-nginx", "docker" })
            await Own.ServiceAsync(service, "down");
    }

    public async Task BringBackAsync()
    {
        foreach (var service in new[] { "docker", "droidd", "local-nginx" })
            await Own.ServiceAsync(service, "up");
    }

    /// <summary>The droids that its Docker has containers of.</summary>
    public Task<string[]> DroidsAsync() => Own.DroidsAsync();

    public async ValueTask DisposeAsync()
    {
        await first.SqlAsync($"delete from apps where uid in (select app_uid from placements where server = '{Name}'); delete from moves; "
            + $"delete from volume_removals where server = '{Name}'; delete from servers where name = '{Name}'");
        await Own.DisposeAsync();
    }
}
