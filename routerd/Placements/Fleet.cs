using System.Text.Json;
using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Placements;

/// <summary>The droid-servers with what is placed on them, as Postgres tells.</summary>
internal static class Fleet
{
    /// <summary>Whose an app is, as a number: a user's id, a team's below 0, and 0 for nobody's.</summary>
    public const string Owner = "coalesce(-a.team_id, a.owner_id, 0)";

    /// <summary>Keeps others from placing until the transaction ends, so that each of several at once sees what the others did.</summary>
    public static Task LockAsync(NpgsqlConnection connection, CancellationToken cancel) =>
        connection.RunAsync("select pg_advisory_xact_lock(hashtext('appoxy placement'))", null, cancel);

    /// <summary>Places a new app.</summary>
    /// <exception cref="Problem">503: no server takes it.</exception>
    public static async Task PlaceAsync(NpgsqlConnection connection, string uid, double overcommit, CancellationToken cancel)
    {
        await LockAsync(connection, cancel);
        var app = await connection.FirstAsync<NeedsRow>(
            $"select {Owner} as owner, settings, app_reserves(settings, formation) as reserved from apps a where uid = @uid", new { uid }, cancel);
        var needs = Needs(app!.Owner, app.Settings, app.Reserved);
        var servers = await ReadAsync(connection, [needs.Owner], cancel);
        var server = Placement.Choose(needs, servers, overcommit)
            ?? throw Problem.Unavailable(Sentence(Placement.WhyNot(needs, servers, overcommit)));
        await connection.RunAsync("insert into placements (app_uid, server) values (@uid, @Name)", new { uid, server.Name }, cancel);
    }

    private static string Sentence(string words) => char.ToUpperInvariant(words[0]) + words[1..] + ".";

    /// <summary>All servers by name, with the apps of some owners told apart. Apps on their way count where they go.</summary>
    public static async Task<List<ServerLoad>> ReadAsync(NpgsqlConnection connection, IReadOnlyCollection<long> owners, CancellationToken cancel)
    {
        var servers = await connection.ListAsync<ServerRow>("""
            select s.name, s.labels, s.draining, s.down_since is null as up, coalesce(s.memory_bytes, 0) as memory_bytes,
                   coalesce(l.reserved, 0)::bigint as reserved, coalesce(l.apps, 0)::int as apps
            from servers s left join (
              select coalesce(m.target, p.server) as server, sum(p.reserved) as reserved, count(*) as apps
              from placements p left join moves m on m.app_uid = p.app_uid and m.state <> 'failed'
              group by 1) l on l.server = s.name
            order by s.name collate "C"
            """, null, cancel);
        var of = (await connection.ListAsync<(string Server, long Owner, int Apps)>($"""
            select coalesce(m.target, p.server), {Owner}, count(*)::int
            from apps a join placements p on p.app_uid = a.uid left join moves m on m.app_uid = a.uid and m.state <> 'failed'
            where a.owner_id = any(@users) or a.team_id = any(@teams) group by 1, 2
            """, new { users = owners.Where(o => o > 0).ToArray(), teams = owners.Where(o => o < 0).Select(o => -o).ToArray() }, cancel)).ToLookup(o => o.Server);
        return [.. servers.Select(s =>
        {
            var load = new ServerLoad(s.Name, s.MemoryBytes)
            {
                Up = s.Up, Draining = s.Draining, Labels = Postgres.FromJson(s.Labels, AppoxyJson.Default.DictionaryStringString),
            };
            foreach (var (_, owner, apps) in of[s.Name])
                load.Add(owner, 0, apps);
            // The others' as one.
            load.Add(long.MinValue, s.Reserved, s.Apps - load.Apps);
            return load;
        })];
    }

    /// <summary>What an app with these settings and this formation needs.</summary>
    public static AppNeeds Needs(long owner, string settings, long reserved) =>
        new(owner, reserved, Labels.Parse(Settings.Read(settings).Constraint ?? "none") ?? []);

    private sealed record NeedsRow
    {
        public long Owner { get; init; }
        public string Settings { get; init; } = "{}";
        public long Reserved { get; init; }
    }

    private sealed record ServerRow
    {
        public string Name { get; init; } = "";
        public string Labels { get; init; } = "{}";
        public bool Draining { get; init; }
        public bool Up { get; init; }
        public long MemoryBytes { get; init; }
        public long Reserved { get; init; }
        public int Apps { get; init; }
    }
}
