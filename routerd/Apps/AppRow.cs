using Appoxy.Routerd.Database;
using Appoxy.Routerd.Users;
using Npgsql;

namespace Appoxy.Routerd.Apps;

/// <summary>An app as Postgres holds it.</summary>
internal sealed record AppRow
{
    /// <summary>Who may see an app, and as what: the one place that says so.</summary>
    private const string FromSeen = """
        from apps a
        cross join lateral (
          select case when @Admin then 'owner'::app_role else role_in_app(a.uid, a.owner_id, a.team_id, @Id) end as role) r
        where r.role is not null and (@App::text is null or a.uid = @App)
        """;

    private const string Select = $"""
        select a.uid, a.name, a.generation, a.desired, a.settings, a.formation, a.created_at, r.role::text,
               coalesce((select email from users where id = a.owner_id), (select name from teams where id = a.team_id)) as owner,
               (select min(server) from placements p where p.app_uid = a.uid) as server
        {FromSeen}
        """;

    public string Uid { get; init; } = "";
    public string Name { get; init; } = "";
    public long Generation { get; init; }
    public string Desired { get; init; } = "";
    public string Settings { get; init; } = "{}";
    public string Formation { get; init; } = "{}";
    public DateTime CreatedAt { get; init; }

    /// <summary>A user's email, or a team's name; null where that user is gone.</summary>
    public string? Owner { get; init; }

    /// <summary>What the caller may do with it.</summary>
    public AppRole Role { get; init; }

    /// <summary>The droid-server that it is placed on.</summary>
    public string Server { get; init; } = "";

    /// <summary>The app of this name.</summary>
    /// <exception cref="Problem">404: there is none, or the caller may not see it. 403: the caller's role in it is too small.</exception>
    public static async Task<AppRow> FindAsync(NpgsqlDataSource db, Caller caller, string name, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        return await FindAsync(connection, caller, name, cancel);
    }

    /// <summary>As above; held against other writers until the transaction's end.</summary>
    public static Task<AppRow> LockAsync(NpgsqlConnection connection, Caller caller, string name, CancellationToken cancel) =>
        FindAsync(connection, caller, name, cancel, "for update of a");

    /// <summary>A page of the apps that the caller may see, and a row more if there is another.</summary>
    public static Task<List<AppRow>> ListAsync(NpgsqlDataSource db, Caller caller, Paging paging, CancellationToken cancel) =>
        db.ListAsync<AppRow>($"{Select} {(caller.Admin ? "" : "and a.uid in (select apps_of(@Id))")} and a.name > @after order by a.name limit @Rows",
            new { caller.Admin, caller.Id, caller.App, after = paging.After ?? "", paging.Rows }, cancel);

    /// <summary>Whether the caller may do what is asked with the app of this name; read before a request's body is.</summary>
    /// <exception cref="Problem">As <see cref="FindAsync(NpgsqlDataSource, Caller, string, CancellationToken)"/>.</exception>
    public static async Task CheckAsync(NpgsqlDataSource db, Caller caller, string name, CancellationToken cancel) =>
        Allowed(Names.IsAppName(name)
            ? await db.FirstAsync<AppRow>($"select a.name, r.role::text {FromSeen} and a.name = @name",
                new { caller.Admin, caller.Id, caller.App, name }, cancel)
            : null, caller, name);

    private static async Task<AppRow> FindAsync(
        NpgsqlConnection connection, Caller caller, string name, CancellationToken cancel, string suffix = "") =>
        Allowed(Names.IsAppName(name)
            ? await connection.FirstAsync<AppRow>($"{Select} and a.name = @name {suffix}",
                new { caller.Admin, caller.Id, caller.App, name }, cancel)
            : null, caller, name);

    private static AppRow Allowed(AppRow? found, Caller caller, string name) =>
        found is null ? throw Problem.NotFound(Names.IsAppName(name) ? $"There is no app '{name}'." : "There is no app of this name.")
        : found.Role < caller.Needs ? throw Problem.Forbidden(
            $"For {name} you have the role {Word(found.Role)}; this needs {Word(caller.Needs)}.")
        : found;

    public static string Word(AppRole role) => role.ToString().ToLowerInvariant();
}
