using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Placements;

/// <summary>Why an app moves.</summary>
internal static class MoveReasons
{
    public const string Asked = "asked";
    public const string Drain = "drain";
    public const string Down = "down";
    public const string Rebalance = "rebalance";
}

/// <summary>Apps on their way to another droid-server; <see cref="Mover"/> takes them there.</summary>
internal static class Moves
{
    /// <summary>How an app with volumes moves: not at all, with them, or without what they hold.</summary>
    public static readonly string[] Volumes = ["none", "copy", "lose"];

    public const string Columns = "app_uid, source, target, reason, state, copied, error, changed_at";

    /// <summary>Begins the move of an app.</summary>
    /// <param name="db">The database.</param>
    /// <param name="uid">The app.</param>
    /// <param name="to">Where to; null for where placement says.</param>
    /// <param name="reason">One of <see cref="MoveReasons"/>.</param>
    /// <param name="volumes">One of <see cref="Volumes"/>.</param>
    /// <param name="overcommit">As in <see cref="Placement.Choose"/>.</param>
    /// <param name="cancel">Ends the wait.</param>
    /// <exception cref="Problem">409 or 404: it can't be moved so.</exception>
    public static async Task BeginAsync(
        NpgsqlDataSource db, string uid, string? to, string reason, string volumes, double overcommit, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        await Fleet.LockAsync(connection, cancel);
        var app = await connection.FirstAsync<MovingApp>($"""
            select a.name, {Fleet.Owner} as owner, a.settings, p.server, p.reserved, s.down_since is not null as down,
                   (select count(*)::int from volumes v where v.app_uid = a.uid) as volumes,
                   (select m.target from moves m where m.app_uid = a.uid and m.state <> 'failed') as moving_to
            from apps a join placements p on p.app_uid = a.uid join servers s on s.name = p.server where a.uid = @uid for update of a
            """, new { uid }, cancel) ?? throw Problem.NotFound("There is no such app.");
        if (app.MovingTo is not null)
            throw Problem.Conflict($"{app.Name} is on its way to {app.MovingTo} already.");
        if (app.Volumes > 0 && volumes == "none")
            throw Problem.Conflict($"{app.Name} has volumes, which would stay behind: move it with them (--with-volumes), for which it is stopped "
                + "while they are copied.");
        if (app.Volumes > 0 && volumes == "copy" && app.Down)
            throw Problem.Conflict($"{app.Name} has volumes, and {app.Server}, which holds them, is down: wait for it, or give them up (--without-volumes).");
        var needs = Fleet.Needs(app.Owner, app.Settings, app.Reserved);
        var servers = await Fleet.ReadAsync(connection, [needs.Owner], cancel);
        var others = servers.Where(s => s.Name != app.Server && (to is null || s.Name == to)).ToList();
        if (to is not null && servers.All(s => s.Name != to))
            throw Problem.NotFound($"There is no droid-server '{to}'.");
        if (to == app.Server)
            throw Problem.Conflict($"{app.Name} is on {to} already.");
        var target = Placement.Choose(needs, others, overcommit)
            ?? throw Problem.Conflict($"{app.Name} can't be moved: {(others.Count == 0 ? $"there is no droid-server but {app.Server}"
                : Placement.WhyNot(needs, others, overcommit))}.");
        await connection.RunAsync("""
            insert into moves (app_uid, source, target, reason, volumes) values (@uid, @Server, @Name, @reason, @volumes)
            on conflict (app_uid) do update set source = excluded.source, target = excluded.target, reason = excluded.reason,
              volumes = excluded.volumes, state = 'waiting', frozen = false, copied = null, error = null, created_at = now(), changed_at = now()
            """, new { uid, app.Server, target.Name, reason, volumes = app.Volumes > 0 ? volumes : "none" }, cancel);
        await transaction.CommitAsync(cancel);
    }

    /// <summary>Notes why an app that has to leave its server can't.</summary>
    public static Task NoteStuckAsync(NpgsqlDataSource db, string uid, string source, string reason, string error, CancellationToken cancel) => db.RunAsync("""
        insert into moves (app_uid, source, reason, state, error)
        select @uid, @source, @reason, 'failed', @error from apps where uid = @uid
        on conflict (app_uid) do update set source = excluded.source, target = null, reason = excluded.reason, error = excluded.error, changed_at = now()
        where moves.state = 'failed'
        """, new { uid, source, reason, error }, cancel);

    public static async Task<Dictionary<string, AppMove>> ListAsync(NpgsqlDataSource db, string[] uids, CancellationToken cancel) =>
        (await db.ListAsync<MoveRow>($"select {Columns} from moves where app_uid = any(@uids)", new { uids }, cancel))
            .ToDictionary(m => m.AppUid, m => m.Show());

    internal sealed record MoveRow
    {
        public string AppUid { get; init; } = "";
        public string Source { get; init; } = "";
        public string? Target { get; init; }
        public string Reason { get; init; } = "";
        public string State { get; init; } = "";
        public long? Copied { get; init; }
        public string? Error { get; init; }
        public DateTime ChangedAt { get; init; }

        public AppMove Show() => new(Source, Target, Reason, State, ChangedAt, Copied, Error);
    }

    private sealed record MovingApp
    {
        public string Name { get; init; } = "";
        public long Owner { get; init; }
        public string Settings { get; init; } = "{}";
        public string Server { get; init; } = "";
        public bool Down { get; init; }
        public long Reserved { get; init; }
        public int Volumes { get; init; }
        public string? MovingTo { get; init; }
    }
}
