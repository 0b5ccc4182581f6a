using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy servers</c>: the droid-servers.</summary>
internal static class Servers
{
    private static readonly TimeSpan Poll = TimeSpan.FromSeconds(1);

    public static Command Define() => new("servers", "Lists the droid-servers, lets new ones join, and looks after them.")
    {
        List(), Info(), JoinToken(), Label(), Drain(), Undrain(), Rebalance(), Prune(), Remove(), Revoke(),
    };

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
            Output.Table(servers.Value.Items, ("NAME", s => s.Name), ("STATE", State), ("APPS", s => s.Apps.ToString()),
                ("DROIDS", s => s.Status?.Droids.ToString()), ("CPUS", s => s.Status?.Cpus.ToString()), ("MEMORY", s => Memory(s.Status)),
                ("PROMISED", s => Gigabytes(s.ReservedBytes)), ("LABELS", LabelsOf), ("VERSION", s => s.Status?.Version),
                ("SEEN", s => Output.Ago(s.LastSeen)), ("CERTIFICATE", s => Ends(s)), ("ADDRESS", s => s.Address));
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
                ("name", s.Name), ("state", State(s)), ("address", s.Address), ("labels", LabelsOf(s)), ("apps", s.Apps.ToString()),
                ("moving", s.Moving > 0 ? s.Moving.ToString() : null), ("promised memory", Gigabytes(s.ReservedBytes)),
                ("droids", status?.Droids.ToString()), ("cpus", status?.Cpus.ToString()), ("memory", Memory(status)),
                ("disk", status?.Disk is { } disk ? $"{Output.Size(disk.FreeBytes)} of {Output.Size(disk.TotalBytes)} free" : null),
                ("unused caches", Output.Size(status?.Disk?.CacheBytes)), ("build logs", Output.Size(status?.Disk?.LogBytes)),
                ("last collection", status?.Disk?.Collected is { } last ? $"{last.At.UtcDateTime:yyyy-MM-dd HH:mm:ss} UTC, {What(last)}" : null),
                ("version", status?.Version), ("last seen", Output.Ago(s.LastSeen)), ("certificate ends", Ends(s)),
                ("clock ahead", s.ClockAhead is { } ahead ? $"{ahead:0.0}s" : null), ("nginx version", status?.Templates.Version),
                ("nginx fault", status?.Templates.Error?.ToString()),
            ]);
        });
    }

    private static Verb Label()
    {
        var name = Arguments.Server();
        var pairs = Arguments.Pairs("KEY=VALUE", "Labels, which apps' constraints can name; KEY= removes one", required: true);
        return new Verb("label", "Labels a droid-server, for apps that ask for it by a constraint.",
            "appoxy servers label ds1 zone=eu disk=ssd", "appoxy servers label ds1 disk=") { name, pairs }.Does(async (call, cancel) =>
        {
            var labels = new Dictionary<string, string>();
            foreach (var pair in call.Get(pairs))
            {
                if (pair.IndexOf('=', StringComparison.Ordinal) is not (> 0 and var at))
                    throw Failure.Usage($"'{pair}' is not KEY=VALUE");
                labels[pair[..at]] = pair[(at + 1)..];
            }
            var server = await call.Routerd.PatchAsync<ServerChange, Server>(Path(call.Get(name)), new ServerChange(labels), cancel);
            if (call.Json)
                Output.Json(server.Json);
            else
                Output.Line($"{server.Value.Name} has {LabelsOf(server.Value) ?? "no labels"}");
        });
    }

    private static Verb Drain()
    {
        var name = Arguments.Server();
        var wait = new Option<bool>("--wait") { Description = "Wait until its apps are elsewhere; fails if some can't leave" };
        var volumes = new Option<bool>("--with-volumes") { Description = "Take apps with volumes elsewhere, too: each is stopped while they are copied" };
        return new Verb("drain", "Places nothing more on a droid-server, and takes its apps elsewhere without a request that fails.",
            "appoxy servers drain ds1 --wait") { name, wait, volumes }.Does(async (call, cancel) =>
        {
            var server = await call.Routerd.PostAsync<NewDrain, Server>(
                Path(call.Get(name), "drain"), new NewDrain(call.Get(volumes) ? true : null), cancel);
            for (string? told = null; call.Get(wait) && server.Value is { Apps: > 0 } s && !(s.Moving == 0 && s.Stuck.Count == s.Apps); )
            {
                if (!call.Json && $"{s.Apps} {(s.Apps == 1 ? "app" : "apps")} left, {s.Moving} on the way, {s.Stuck.Count} stuck" is var words && words != told)
                    Output.Note(told = words);
                await Task.Delay(Poll, cancel);
                server = await call.Routerd.GetAsync<Server>(Path(call.Get(name)), cancel);
            }
            if (call.Json)
                Output.Json(server.Json);
            else if (!call.Get(wait))
                Output.Line($"{server.Value.Name} drains: {server.Value.Apps} {(server.Value.Apps == 1 ? "app" : "apps")} to go");
            else if (server.Value.Apps == 0)
                Output.Line($"{server.Value.Name} is drained");
            if (call.Get(wait) && server.Value.Stuck is { Count: > 0 } stuck)
            {
                if (!call.Json)
                    Output.Table(stuck, ("APP", a => a.App), ("WHY IT STAYS", a => a.Why));
                throw new Failure(ExitCodes.Failed, $"{stuck.Count} {(stuck.Count == 1 ? "app" : "apps")} can't leave {server.Value.Name}");
            }
        });
    }

    private static Verb Undrain()
    {
        var name = Arguments.Server();
        return new Verb("undrain", "Lets apps be placed on a droid-server again.", "appoxy servers undrain ds1") { name }.Does(async (call, cancel) =>
        {
            var server = await call.Routerd.PostAsync<Server>(Path(call.Get(name), "undrain"), cancel);
            if (call.Json)
                Output.Json(server.Json);
            else
                Output.Line($"{server.Value.Name} takes apps again");
        });
    }

    private static Verb Remove()
    {
        var name = Arguments.Server();
        var force = new Option<bool>("--force") { Description = "Also one that is down and still has to remove apps that left it" };
        return new Verb("remove", "Removes a droid-server that has no apps; it can come back by a new join token.", "appoxy servers remove ds2") { name, force }
            .Does(async (call, cancel) =>
            {
                await call.Routerd.DeleteAsync(Path(call.Get(name)) + (call.Get(force) ? "?force=true" : ""), cancel);
                Removed.Print(call, call.Get(name), $"{call.Get(name)} is removed");
            });
    }

    private static Verb Rebalance()
    {
        var dry = new Option<bool>("--dry-run") { Description = "Only say which apps would move" };
        return new Verb("rebalance", "Moves a few apps from full droid-servers to emptier ones.",
            "appoxy servers rebalance --dry-run", "appoxy servers rebalance") { dry }.Does(async (call, cancel) =>
        {
            var moves = await call.Routerd.PostAsync<Page<PlannedMove>>("v1/servers/rebalance" + (call.Get(dry) ? "?dryRun=true" : ""), cancel);
            if (call.Json)
                Output.Json(moves.Items);
            else if (moves.Value.Items.Count == 0)
                Output.Line("nothing is to be moved: the droid-servers are about alike");
            else
                Output.Table(moves.Value.Items, ("APP", m => m.App), ("FROM", m => m.From), ("TO", m => m.To));
        });
    }

    private static string Path(string name, string? below = null) => $"v1/servers/{Uri.EscapeDataString(name)}{(below is null ? "" : "/" + below)}";

    private static string State(Server s) => s.State + (s.Note is null ? "" : $" ({s.Note})");

    private static string? LabelsOf(Server s) =>
        s.Labels.Count == 0 ? null : string.Join(',', s.Labels.OrderBy(l => l.Key, StringComparer.Ordinal).Select(l => $"{l.Key}={l.Value}"));

    private static string Gigabytes(long bytes) => $"{bytes / (double)(1L << 30):0.#}g";

    private static string? Ends(Server server) =>
        server.CertificateEnds is { } end ? $"in {Output.Span(end - DateTimeOffset.UtcNow)}" : null;

    private static Verb Prune()
    {
        var name = Arguments.Server();
        return new Verb("prune", "Removes the images, caches, clones and logs of builds that nothing uses. Volumes and kept versions stay.",
            "appoxy servers prune ds1") { name }.Does(async (call, cancel) =>
        {
            var done = await call.Routerd.PostAsync<Collection>($"v1/servers/{Uri.EscapeDataString(call.Get(name))}/prune", cancel, Routerd.DroidPatience);
            if (call.Json)
                Output.Json(done.Json);
            else
                Output.Line($"{What(done.Value)}{(done.Value.Busy ? "; builds run, so images and caches were left" : "")}");
        });
    }

    private static string What(Collection done) => $"{done.Removed} {(done.Removed == 1 ? "piece" : "pieces")}, {Output.Size(done.FreedBytes)}";

    private static string? Memory(ServerStatus? status) => status is null ? null : $"{status.MemoryBytes / (double)(1L << 30):0.#}g";
}
