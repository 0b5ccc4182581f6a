using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy servers</c>: the droid-servers.</summary>
internal static class Servers
{
    public static Command Define() => new("servers", "Lists and shows the droid-servers, lets new ones join, and removes them.")
        { List(), Info(), JoinToken(), Remove(), Revoke() };

    private static Verb JoinToken()
    {
        var name = new Option<string?>("--name") { Description = "What the machine will be called; else the next free name", HelpName = "NAME" };
        var role = new Option<string?>("--role") { Description = "droid-server or proxy; else droid-server", HelpName = "ROLE" };
        var expires = new Option<string?>("--expires") { Description = "For how long the token lets it in; else 1h", HelpName = "TIME" };
        return new Verb("join-token", "Makes a token by which a new machine joins, once: provision.sh --role ROLE --join TOKEN.",
            "appoxy servers join-token", "appoxy servers join-token --name ds2 --expires 10m") { name, role, expires }.Does(async (call, cancel) =>
        {
            var made = await call.Routerd.PostAsync<NewJoinToken, IssuedJoinToken>("v1/servers/join-tokens",
                new NewJoinToken(call.Get(name), call.Get(role), call.Get(expires)), cancel);
            if (call.Json)
                Output.Json(made.Json);
            else
                Output.Pairs([("token", made.Value.Token), ("name", made.Value.Name), ("role", made.Value.Role),
                    ("expires", made.Value.ExpiresAt.ToString("u", System.Globalization.CultureInfo.InvariantCulture))]);
        });
    }

    private static Verb Remove()
    {
        var name = Arguments.Server();
        return new Verb("remove", "Removes a droid-server that has no apps; it can come back by a new join token.", "appoxy servers remove ds2")
            { name }.Does(async (call, cancel) =>
        {
            await call.Routerd.DeleteAsync($"v1/servers/{Uri.EscapeDataString(call.Get(name))}", cancel);
            Removed.Print(call, call.Get(name), $"{call.Get(name)} is removed");
        });
    }

    private static Verb Revoke()
    {
        var name = Arguments.Server();
        return new Verb("revoke", "Refuses all certificates of a machine from now on, as when its key was stolen; it has to join anew.",
            "appoxy servers revoke ds2") { name }.Does(async (call, cancel) =>
        {
            var revoked = await call.Routerd.PostAsync<RevokedServer>($"v1/servers/{Uri.EscapeDataString(call.Get(name))}/revoke", cancel);
            if (call.Json)
                Output.Json(revoked.Json);
            else
                Output.Line($"{revoked.Value.Name}: {revoked.Value.Certificates} certificates are refused from now on");
        });
    }

    private static Verb List() => new Verb("list", "Lists the droid-servers.", "appoxy servers list").Does(async (call, cancel) =>
    {
        var servers = await call.Routerd.GetAsync<Page<Server>>("v1/servers", cancel);
        if (call.Json)
            Output.Json(servers.Items);
        else
            Output.Table(servers.Value.Items, ("NAME", s => s.Name), ("STATE", s => s.Up ? "up" : "down"), ("APPS", s => s.Apps.ToString()),
                ("DROIDS", s => s.Status?.Droids.ToString()), ("CPUS", s => s.Status?.Cpus.ToString()), ("MEMORY", s => Memory(s.Status)),
                ("VERSION", s => s.Status?.Version), ("SEEN", s => Output.Ago(s.LastSeen)), ("CERTIFICATE", s => Ends(s)), ("ADDRESS", s => s.Address));
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
                ("version", status?.Version), ("last seen", Output.Ago(s.LastSeen)), ("certificate ends", Ends(s)),
                ("clock ahead", s.ClockAhead is { } ahead ? $"{ahead:0.0}s" : null), ("nginx version", status?.Templates.Version),
                ("nginx fault", status?.Templates.Error?.ToString()),
            ]);
        });
    }

    private static string? Ends(Server server) =>
        server.CertificateEnds is { } end ? $"in {Output.Span(end - DateTimeOffset.UtcNow)}" : null;

    private static string? Memory(ServerStatus? status) => status is null ? null : $"{status.MemoryBytes / (double)(1L << 30):0.#}g";
}
