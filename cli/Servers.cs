using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy servers</c>: the droid-servers.</summary>
internal static class Servers
{
    public static Command Define() => new("servers", "Lists and shows the droid-servers.") { List(), Info() };

    private static Verb List() => new Verb("list", "Lists the droid-servers.", "appoxy servers list").Does(async (call, cancel) =>
    {
        var servers = await call.Routerd.GetAsync<Page<Server>>("v1/servers", cancel);
        if (call.Json)
            Output.Json(servers.Items);
        else
            Output.Table(servers.Value.Items, ("NAME", s => s.Name), ("STATE", s => s.Up ? "up" : "down"), ("APPS", s => s.Apps.ToString()),
                ("DROIDS", s => s.Status?.Droids.ToString()), ("CPUS", s => s.Status?.Cpus.ToString()), ("MEMORY", s => Memory(s.Status)),
                ("VERSION", s => s.Status?.Version), ("ADDRESS", s => s.Address));
    });

    private static Verb Info()
    {
        var name = Arguments.Server();
        return new Verb("info", "Shows one droid-server.", "appoxy servers info ds1") { name }.Does(async (call, cancel) =>
        {
            var server = await call.Routerd.GetAsync<Server>($"v1/servers/{Uri.EscapeDataString(call.Get(name))}", cancel);
            if (call.Json)
            {
                Output.Json(server.Json);
                return;
            }
            var (s, status) = (server.Value, server.Value.Status);
            Output.Pairs(
            [
                ("name", s.Name), ("state", s.Up ? "up" : "down"), ("address", s.Address), ("apps", s.Apps.ToString()),
                ("droids", status?.Droids.ToString()), ("cpus", status?.Cpus.ToString()), ("memory", Memory(status)),
                ("version", status?.Version), ("nginx version", status?.Templates.Version),
                ("nginx fault", status?.Templates.Error?.ToString()),
            ]);
        });
    }

    private static string? Memory(ServerStatus? status) => status is null ? null : $"{status.MemoryBytes / (double)(1L << 30):0.#}g";
}
