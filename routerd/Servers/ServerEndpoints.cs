using System.Text.Json;
using Appoxy.Cluster;
using Appoxy.Routerd.Cluster;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Placements;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Servers;

/// <summary><c>/v1/servers</c>: the droid-servers, how they are, how new ones join, what is done with them, and how they go.</summary>
internal static class ServerEndpoints
{
    private const int MostStuck = 100;

    public static void MapServers(this RouteGroupBuilder v1)
    {
        var group = v1.MapGroup("/servers").RequireScope(Scope.Admin);
        group.MapGet("", async (DroidServers servers, NpgsqlDataSource db, RouterdSettings settings, CancellationToken cancel) =>
            TypedResults.Ok(new Page<Server>(await ShowAsync(servers.Known, servers, db, settings, cancel))));
        group.MapGet("/{name}", GetAsync);
        group.MapPatch("/{name}", LabelAsync);
        group.MapDelete("/{name}", RemoveAsync);
        group.MapPost("/join-tokens", async (NewJoinToken body, IServiceProvider services, CancellationToken cancel) =>
            TypedResults.Created((string?)null, await Joined<JoinTokens>(services).CreateAsync(body, cancel)));
        group.MapPost("/{name}/revoke", async (string name, IServiceProvider services, CancellationToken cancel) =>
            await Joined<ServerCertificates>(services).RevokeAsync(CheckName(name), cancel) is > 0 and var count
                ? TypedResults.Ok(new RevokedServer(name, count)) : throw Problem.NotFound($"'{name}' has no certificate that holds."));
        group.MapPost("/{name}/drain", (string name, NewDrain? body, DroidServers servers, NpgsqlDataSource db, RouterdSettings settings,
            CancellationToken cancel) => DrainAsync(name, true, body?.WithVolumes == true, servers, db, settings, cancel));
        group.MapPost("/{name}/undrain", (string name, DroidServers servers, NpgsqlDataSource db, RouterdSettings settings,
            CancellationToken cancel) => DrainAsync(name, false, false, servers, db, settings, cancel));
        group.MapPost("/{name}/prune", PruneAsync);
    }

    /// <summary>Has a droid-server remove images, caches, clones and logs of builds that nothing uses.</summary>
    private static async Task<Ok<Collection>> PruneAsync(string name, DroidServers servers, CancellationToken cancel)
    {
        var server = servers.Known.FirstOrDefault(s => s.Name == name) ?? throw Unknown(name);
        return TypedResults.Ok(await servers[server.Name].PruneAsync(cancel));
    }

    private static async Task<Ok<Server>> GetAsync(
        string name, DroidServers servers, NpgsqlDataSource db, RouterdSettings settings, CancellationToken cancel)
    {
        var server = servers.Known.FirstOrDefault(s => s.Name == name) ?? throw Unknown(name);
        return TypedResults.Ok((await ShowAsync([server], servers, db, settings, cancel))[0]);
    }

    internal static Problem Unknown(string name) =>
        Problem.NotFound(Names.IsServerName(name) ? $"There is no droid-server '{name}'." : "There is no droid-server of this name.");

    /// <summary>Sets labels; an empty value removes one.</summary>
    private static async Task<Ok<Server>> LabelAsync(
        string name, ServerChange body, DroidServers servers, NpgsqlDataSource db, RouterdSettings settings, CancellationToken cancel)
    {
        var change = body.Labels ?? [];
        if (change.Keys.FirstOrDefault(k => !Labels.IsKey(k) || k == Labels.Server) is { } key)
            throw Problem.BadRequest(key == Labels.Server ? "labels: 'server' is each server's own name."
                : "labels: a key has a-z, 0-9 and . _ / -, the first a letter, and is at most 63 long.");
        if (change.Values.Any(v => !string.IsNullOrEmpty(v) && !Labels.IsValue(v)))
            throw Problem.BadRequest("labels: a value has letters, digits and . _ -, and is at most 63 long; an empty one removes the label.");
        await using (var connection = await db.OpenConnectionAsync(cancel))
        {
            await using var transaction = await connection.BeginTransactionAsync(cancel);
            var stored = await connection.FirstAsync<string>("select labels from servers where name = @name for update", new { name }, cancel)
                ?? throw Unknown(name);
            var labels = Postgres.FromJson(stored, AppoxyJson.Default.DictionaryStringString);
            foreach (var (label, value) in change)
            {
                if (string.IsNullOrEmpty(value))
                    labels.Remove(label);
                else
                    labels[label] = value;
            }
            if (labels.Count > Labels.Most)
                throw Problem.BadRequest($"A droid-server has at most {Labels.Most} labels.");
            await connection.RunAsync("update servers set labels = @labels::jsonb where name = @name",
                new { name, labels = JsonSerializer.Serialize(labels, AppoxyJson.Default.DictionaryStringString) }, cancel);
            await transaction.CommitAsync(cancel);
        }
        return await GetAsync(name, servers, db, settings, cancel);
    }

    private static async Task<Ok<Server>> DrainAsync(
        string name, bool draining, bool volumes, DroidServers servers, NpgsqlDataSource db, RouterdSettings settings, CancellationToken cancel)
    {
        await using (var connection = await db.OpenConnectionAsync(cancel))
        {
            await using var transaction = await connection.BeginTransactionAsync(cancel);
            // So that nobody who has read it as open places on it after.
            await Fleet.LockAsync(connection, cancel);
            if (await connection.RunAsync("update servers set draining = @draining, drain_volumes = @volumes where name = @name",
                new { name, draining, volumes }, cancel) == 0)
                throw Unknown(name);
            // What could not go is to be tried in the new way; what is on its way arrives.
            await connection.RunAsync(
                "delete from moves where source = @name and reason = 'drain' and (state = 'failed' or (not @draining and state = 'waiting'))",
                new { name, draining }, cancel);
            await transaction.CommitAsync(cancel);
        }
        return await GetAsync(name, servers, db, settings, cancel);
    }

    private static async Task<NoContent> RemoveAsync(
        string name, bool? force, DroidServers servers, NpgsqlDataSource db, RouterdSettings settings, IServiceProvider services,
        CancellationToken cancel)
    {
        if (settings.Servers.Any(s => s.Name == name))
            throw Problem.Conflict($"{name} is this machine, which can't be removed.");
        await using (var connection = await db.OpenConnectionAsync(cancel))
        {
            await using var transaction = await connection.BeginTransactionAsync(cancel);
            await Fleet.LockAsync(connection, cancel);
            var (found, down, apps, leaving) = await connection.FirstAsync<(string? Found, bool Down, int Apps, int Leaving)>("""
                select name, down_since is not null, (select count(*)::int from placements where server = name)
                  + (select count(*)::int from moves where target = name and state <> 'failed'),
                  (select count(*)::int from removals where server = name) from servers where name = @name
                """, new { name }, cancel);
            if (found is null)
                throw Unknown(name);
            if (apps > 0)
                throw Problem.Conflict($"{name} still has {apps} {(apps == 1 ? "app" : "apps")}; drain it first (appoxy servers drain {name})"
                    + (down ? ", and move or destroy those that can't leave by themselves." : "."));
            if (force == true && !down)
                throw Problem.Conflict($"{name} is not down; remove it without force.");
            if (leaving > 0 && force != true)
                throw Problem.Conflict($"{name} still has to remove {leaving} {(leaving == 1 ? "app" : "apps")} that left; try again in a moment"
                    + (down ? ", or, if it never comes back, with --force." : "."));
            await connection.RunAsync("""
                delete from moves where target = @name or source = @name; delete from volume_removals where server = @name;
                delete from servers where name = @name
                """, new { name }, cancel);
            await transaction.CommitAsync(cancel);
        }
        if (services.GetService<ServerCertificates>() is { } certificates)
            await certificates.RevokeAsync(name, cancel);
        await servers.RefreshAsync(cancel);
        return TypedResults.NoContent();
    }

    private static T Joined<T>(IServiceProvider services) where T : class => services.GetService<T>()
        ?? throw Problem.Conflict("No machine can join this one: run provision.sh --cluster-port 8443 --address IP here, or ask the control machine.");

    private static string CheckName(string name) =>
        Names.IsServerName(name) ? name : throw Problem.NotFound("There is no machine of this name.");

    private static async Task<Server[]> ShowAsync(
        IReadOnlyList<ServerSettings> some, DroidServers servers, NpgsqlDataSource db, RouterdSettings settings, CancellationToken cancel)
    {
        var names = some.Select(s => s.Name).ToArray();
        var statuses = await Task.WhenAll(some.Select(s => AskAsync(s.Name, servers, cancel)));
        var rows = (await db.ListAsync<ServerRow>("""
            select s.name, s.labels, s.draining, s.down_since, s.memory_bytes, s.last_seen, count(p.app_uid)::int as apps,
                   (select max(not_after) from server_certificates where server = s.name and revoked_at is null) as certificate_ends,
                   extract(epoch from (s.heartbeat->>'clock')::timestamptz - s.last_seen)::float8 as clock_ahead,
                   coalesce(sum(p.reserved), 0)::bigint as reserved, count(m.app_uid) filter (where m.state <> 'failed')::int as moving
            from servers s left join placements p on p.server = s.name left join moves m on m.app_uid = p.app_uid
            where s.name = any(@names) group by s.name
            """, new { names }, cancel)).ToDictionary(r => r.Name);
        var stuck = (await db.ListAsync<(string Server, string App, string Why)>($"""
            select m.source, a.name, m.error from moves m join apps a on a.uid = m.app_uid
            where m.state = 'failed' and m.reason in ('drain', 'down') and m.source = any(@names) order by a.name limit {MostStuck}
            """, new { names }, cancel)).ToLookup(s => s.Server, s => new StuckApp(s.App, s.Why));
        var braked = await Evacuation.IsBrakedAsync(db, settings, cancel);
        return [.. some.Zip(statuses, (server, status) =>
        {
            var row = rows.GetValueOrDefault(server.Name, new ServerRow());
            return new Server
            {
                Name = server.Name,
                Address = server.Address,
                Up = status is not null,
                State = status is null ? "down" : row.Draining ? row.Apps == 0 ? "drained" : "draining" : "up",
                DownSince = row.DownSince,
                Labels = Postgres.FromJson(row.Labels, AppoxyJson.Default.DictionaryStringString),
                Apps = row.Apps,
                Moving = row.Moving,
                ReservedBytes = row.Reserved,
                MemoryBytes = row.MemoryBytes,
                Stuck = [.. stuck[server.Name]],
                Note = braked && status is null ? "most droid-servers are silent: no app is moved" : null,
                Status = status,
                LastSeen = row.LastSeen,
                CertificateEnds = row.CertificateEnds,
                ClockAhead = row.ClockAhead is { } ahead ? Math.Round(ahead, 1) : null,
            };
        })];
    }

    private static async Task<ServerStatus?> AskAsync(string name, DroidServers servers, CancellationToken cancel)
    {
        try
        {
            return await servers[name].StatusAsync(cancel);
        }
        catch (Problem)
        {
            return null;
        }
    }

    private sealed record ServerRow
    {
        public string Name { get; init; } = "";
        public string Labels { get; init; } = "{}";
        public bool Draining { get; init; }
        public DateTime? DownSince { get; init; }
        public long? MemoryBytes { get; init; }
        public int Apps { get; init; }
        public long Reserved { get; init; }
        public int Moving { get; init; }
        public DateTime? LastSeen { get; init; }
        public DateTime? CertificateEnds { get; init; }
        public double? ClockAhead { get; init; }
    }
}
