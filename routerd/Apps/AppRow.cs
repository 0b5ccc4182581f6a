using Appoxy.Routerd.Database;
using Appoxy.Routerd.Users;
using Npgsql;

namespace Appoxy.Routerd.Apps;

/// <summary>An app as Postgres holds it.</summary>
internal sealed record AppRow
{
    private const string Select = """
        select a.uid, a.name, a.generation, a.desired, a.settings, a.env, a.formation, a.created_at,
               (select min(server) from placements p where p.app_uid = a.uid) as server
        from apps a
        where (@Admin or a.owner_id = @Id)
        """;

    public string Uid { get; init; } = "";
    public string Name { get; init; } = "";
    public long Generation { get; init; }
    public string Desired { get; init; } = "";
    public string Settings { get; init; } = "{}";
    public string Env { get; init; } = "{}";
    public string Formation { get; init; } = "{}";
    public DateTime CreatedAt { get; init; }

    /// <summary>The droid-server that it is placed on.</summary>
    public string Server { get; init; } = "";

    /// <summary>The app of this name.</summary>
    /// <exception cref="Problem">404: there is none, or the caller may not see it.</exception>
    public static async Task<AppRow> FindAsync(NpgsqlDataSource db, Caller caller, string name, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        return await FindAsync(connection, caller, name, cancel);
    }

    /// <summary>As above; held against other writers until the transaction's end.</summary>
    public static Task<AppRow> LockAsync(NpgsqlConnection connection, Caller caller, string name, CancellationToken cancel) =>
        FindAsync(connection, caller, name, cancel, "for update of a");

    public static Task<List<AppRow>> ListAsync(NpgsqlDataSource db, Caller caller, CancellationToken cancel) =>
        db.ListAsync<AppRow>(Select + " order by a.name", caller, cancel);

    private static async Task<AppRow> FindAsync(
        NpgsqlConnection connection, Caller caller, string name, CancellationToken cancel, string suffix = "")
    {
        var found = Names.IsAppName(name)
            ? await connection.FirstAsync<AppRow>($"{Select} and a.name = @name {suffix}", new { caller.Admin, caller.Id, name }, cancel)
            : null;
        return found ?? throw Problem.NotFound(Names.IsAppName(name) ? $"There is no app '{name}'." : "There is no app of this name.");
    }
}
