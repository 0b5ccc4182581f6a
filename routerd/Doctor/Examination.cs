using System.Net;
using System.Net.Sockets;
using System.Reflection;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Routes;
using Appoxy.Routerd.Sealing;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Templates;
using Npgsql;

namespace Appoxy.Routerd.Doctor;

/// <summary>Looks at all parts at once, each within a few seconds, and says of each fault what to do about it.</summary>
internal sealed class Examination(
    RouterdSettings settings, NpgsqlDataSource db, Redis redis, DroidServers servers, Proxies proxies, SecretKeys keys, TimeProvider time)
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(8);
    private static readonly TimeSpan Skew = TimeSpan.FromSeconds(5);

    /// <summary>All findings, those without a fault too.</summary>
    public async Task<IReadOnlyList<Finding>> RunAsync(CancellationToken cancel)
    {
        (string, Func<CancellationToken, Task<IEnumerable<Finding>>>)[] checks =
        [
            ("postgres", PostgresAsync), ("redis", RedisAsync), ("routes", RoutesAsync), ("global-nginx", GlobalNginxAsync), ("droid-servers", ServersAsync),
            ("secrets", SecretsAsync), ("dns", DnsAsync), ("certificates", CertificatesAsync), ("removals", RemovalsAsync),
            ("programs", _ => Task.FromResult(Programs())), ("disk", _ => Task.FromResult(DiskSpace.Look(settings.GitDir, settings.Nginx.LogDir, "/"))),
        ];
        var found = await Task.WhenAll(checks.Select(c => CheckAsync(c.Item1, c.Item2, cancel)));
        return [.. found.SelectMany(f => f)];
    }

    private static async Task<IEnumerable<Finding>> CheckAsync(
        string name, Func<CancellationToken, Task<IEnumerable<Finding>>> check, CancellationToken cancel)
    {
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(Limit);
        try
        {
            return [.. await check(bound.Token).WaitAsync(Limit, cancel)];
        }
        catch (Exception e) when (Outage.IsPostgres(e) && name != "postgres")
        {
            return [new Finding(name, "it can't be told without Postgres", "see postgres")];
        }
        catch (Exception e) when (!cancel.IsCancellationRequested)
        {
            return [new Finding(name, e is OperationCanceledException or TimeoutException ? $"no answer within {Limit.TotalSeconds} s" : e.Message.Split('\n')[0],
                "see the log of routerd")];
        }
    }

    private async Task<IEnumerable<Finding>> PostgresAsync(CancellationToken cancel)
    {
        try
        {
            var done = (await db.ListAsync<string>("select scriptname from schemaversions", null, cancel)).ToHashSet();
            var pending = Assembly.GetExecutingAssembly().GetManifestResourceNames()
                .Where(n => n.EndsWith(".sql", StringComparison.Ordinal) && !done.Contains(n)).ToList();
            return [pending.Count == 0 ? new Finding("postgres")
                : new Finding("postgres", $"{pending.Count} migrations are not applied, the first is {pending[0]}", "run provision.sh again, or routerd migrate")];
        }
        catch (Exception e) when (Outage.IsPostgres(e))
        {
            return [new Finding("postgres", $"Postgres can't be used ({e.Message.Split('\n')[0]})",
                "start it (provision.sh --start); what runs keeps serving, nothing can be changed meanwhile")];
        }
    }

    private async Task<IEnumerable<Finding>> RedisAsync(CancellationToken cancel)
    {
        try
        {
            await redis.Database.PingAsync().WaitAsync(cancel);
            return [new Finding("redis")];
        }
        catch (Exception e) when (Outage.IsRedis(e))
        {
            return [new Finding("redis", $"Redis can't be used ({Outage.Words(e)})",
                "start it (provision.sh --start); known hosts are served meanwhile, new ones are not")];
        }
    }

    private async Task<IEnumerable<Finding>> RoutesAsync(CancellationToken cancel)
    {
        var leader = await db.FirstAsync<string>("""
            select a.application_name from pg_locks l join pg_stat_activity a using (pid)
            where l.locktype = 'advisory' and l.objid = 7042 and l.granted limit 1
            """, null, cancel);
        if (leader is null)
            return [new Finding("routes", "no routerd publishes the routes", "start routerd (provision.sh --start); its log tells why it does not lead")];
        var wanted = await db.FirstAsync<long>("select version from route_version", null, cancel);
        // What was changed this moment may be on its way.
        await Task.Delay(TimeSpan.FromSeconds(1), time, cancel);
        try
        {
            var has = (long?)await redis.Database.StringGetAsync(Redis.Version).WaitAsync(cancel);
            return [has >= wanted ? new Finding("routes")
                : new Finding("routes", $"Redis is at version {has?.ToString() ?? "none"} of the routes, Postgres at {wanted}",
                    $"see the log of {leader}; a restart of it builds the routes anew")];
        }
        catch (Exception e) when (Outage.IsRedis(e))
        {
            return [new Finding("routes", "what is published can't be told without Redis", "see redis")];
        }
    }

    private async Task<IEnumerable<Finding>> GlobalNginxAsync(CancellationToken cancel)
    {
        var found = new List<Finding>();
        try
        {
            using var http = LocalHttp.For("unix:" + settings.Nginx.ControlSocket, TimeSpan.FromSeconds(4));
            await http.GetStringAsync("version", cancel);
        }
        catch (Exception e) when (e is HttpRequestException or SocketException or TaskCanceledException && !cancel.IsCancellationRequested)
        {
            found.Add(new Finding("global-nginx", $"it does not answer ({e.Message})", "start it (provision.sh --start); its error log tells why it ended")
                { Server = settings.Name });
        }
        foreach (var status in await proxies.ListAsync(cancel))
        {
            if (status.AwaySince is { } since)
                found.Add(new Finding("global-nginx", $"its routerd was last heard of at {since:u}", "start routerd there, or forget the proxy")
                    { Server = status.Name });
            else if (status.Error is { } fault)
                found.Add(new Finding("global-nginx", $"newer templates were refused, those before serve on: {fault}",
                    $"mend {fault.Template}: appoxy templates show {fault.Template}, then appoxy templates apply") { Server = status.Name });
        }
        return found.Count > 0 ? found : [new Finding("global-nginx")];
    }

    private async Task<IEnumerable<Finding>> ServersAsync(CancellationToken cancel) => servers.Known.Count == 0
        ? [new Finding("droid-servers", "there is none, so no app can run", "name one in routerd.json")]
        : (await Task.WhenAll(servers.Known.Select(s => ServerAsync(s.Name, cancel)))).SelectMany(f => f);

    private async Task<IEnumerable<Finding>> ServerAsync(string name, CancellationToken cancel)
    {
        try
        {
            var found = await servers[name].ExamineAsync(cancel);
            var skew = (found.Now - time.GetUtcNow()).Duration();
            return [new Finding("droidd") { Server = name }, skew < Skew ? new Finding("clock") { Server = name }
                : new Finding("clock", $"its clock differs from routerd's by {skew.TotalSeconds:0} s", "let both take their time from NTP: apt install systemd-timesyncd")
                    { Server = name },
                .. found.Findings.Select(f => f with { Server = name })];
        }
        catch (Problem e)
        {
            return [new Finding("droidd", e.Message, "start it (provision.sh --start on that machine); its log tells why it ended") { Server = name }];
        }
    }

    private async Task<IEnumerable<Finding>> SecretsAsync(CancellationToken cancel)
    {
        try
        {
            var held = keys.All.Select(k => k.Id).ToHashSet();
            if (File.GetUnixFileMode(keys.Path) is var mode && (mode & (UnixFileMode.GroupRead | UnixFileMode.OtherRead)) != 0)
                return [new Finding("secrets", $"others than its owner can read the key file {keys.Path}", $"chmod 600 {keys.Path}, and: appoxy secrets rotate")];
            var used = await SecretEndpoints.CountAsync(db, cancel);
            return [.. used.Where(u => !held.Contains(u.Key)).Select(u => new Finding("secrets",
                $"{u.Value} secrets are sealed with key {u.Key}, which {keys.Path} lacks", "put that key back from a backup, or set those values again"))
                .DefaultIfEmpty(new Finding("secrets"))];
        }
        catch (Problem e)
        {
            return [new Finding("secrets", e.Message, $"put {keys.Path} back from a backup, owned by routerd's user and with mode 600")];
        }
    }

    private async Task<IEnumerable<Finding>> DnsAsync(CancellationToken cancel)
    {
        if (settings.Domain == "localhost" || settings.Domain.EndsWith(".localhost", StringComparison.Ordinal))
            return [new Finding("dns")];
        var host = "console." + settings.Domain;
        try
        {
            await Dns.GetHostAddressesAsync(host, cancel);
            return [new Finding("dns")];
        }
        catch (SocketException)
        {
            return [new Finding("dns", $"{host} has no address", $"make a DNS record *.{settings.Domain} that leads to the global nginx")];
        }
    }

    private async Task<IEnumerable<Finding>> CertificatesAsync(CancellationToken cancel) =>
        (await db.ListAsync<(string Server, DateTime End)>("""
            select server, max(not_after) from server_certificates where revoked_at is null group by server
            having max(not_after) < now() + interval '3 days'
            """, null, cancel)).Select(c => new Finding("certificates", $"its certificate ends at {c.End:u}",
                "its daemon renews it while it reaches routerd; else join it again with a new token") { Server = c.Server })
            .DefaultIfEmpty(new Finding("certificates"));

    private async Task<IEnumerable<Finding>> RemovalsAsync(CancellationToken cancel) =>
        (await db.ListAsync<(string Server, long Count)>("""
            select server, count(*) from (select server from removals union all select server from volume_removals) r group by server
            """, null, cancel)).Select(r => new Finding("removals", $"{r.Count} apps or volumes that were destroyed are still there",
                "they go as soon as the server can be reached") { Server = r.Server })
            .DefaultIfEmpty(new Finding("removals"));

    private static IEnumerable<Finding> Programs() =>
        new[] { ("git", "git"), ("ssh-keygen", "openssh-client") }.Where(p => DiskSpace.Program(p.Item1) is null)
            .Select(p => new Finding("programs", $"routerd finds no {p.Item1}", $"apt install {p.Item2}")).DefaultIfEmpty(new Finding("programs"));
}
