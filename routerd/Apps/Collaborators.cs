using Appoxy.Routerd.Database;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Apps;

/// <summary><c>/v1/apps/{app}/collaborators</c>: who else may do something with an app.</summary>
internal static class Collaborators
{
    private const int Most = 200;

    public static void MapCollaborators(this RouteGroupBuilder v1)
    {
        var group = v1.MapGroup("/apps/{app}/collaborators");
        group.MapGet("", ListAsync).RequireScope(Scope.Read).WithSummary("Who may do something with an app, and what");
        group.MapPut("/{email}", SetAsync).RequireScope(Scope.Write, AppRole.Owner).WithSummary("Lets a user view, deploy or manage an app");
        group.MapDelete("/{email}", RemoveAsync).RequireScope(Scope.Write, AppRole.Owner).WithSummary("Takes that away again");
    }

    /// <summary>A role that can be given.</summary>
    /// <exception cref="Problem">400.</exception>
    public static AppRole Role(string? text, AppRole most) =>
        Enum.TryParse<AppRole>(text, ignoreCase: true, out var role) && !int.TryParse(text, out _) && role <= most ? role
            : throw Problem.BadRequest($"role: give {string.Join(", ", Enum.GetValues<AppRole>().Where(r => r <= most).Select(AppRow.Word))}.");

    private static async Task<Ok<Page<Collaborator>>> ListAsync(string app, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var all = await db.ListAsync<(string Email, string Role, string? Team)>("""
            select u.email, 'owner', null from apps a join users u on u.id = a.owner_id where a.uid = @Uid
            union all
            select u.email, c.role::text, null from collaborators c join users u on u.id = c.user_id where c.app_uid = @Uid
            union all
            select u.email, m.role::text, t.name
            from apps a join teams t on t.id = a.team_id join team_members m on m.team_id = t.id join users u on u.id = m.user_id
            where a.uid = @Uid
            order by 1, 3
            """, row, cancel);
        return TypedResults.Ok(new Page<Collaborator>([.. all.Select(c => new Collaborator(c.Email, c.Role, c.Team))]));
    }

    private static async Task<Ok<Collaborator>> SetAsync(
        string app, string email, Collaborator body, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var role = Role(body.Role ?? "deploy", AppRole.Manage);
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var user = await UserEndpoints.FindAsync(db, email, cancel);
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        await AppRow.LockAsync(connection, caller, app, cancel);
        if (await connection.FirstAsync<bool>("select owner_id = @Id from apps where uid = @Uid", new { user.Id, row.Uid }, cancel))
            throw Problem.Conflict($"{user.Email} owns {row.Name}.");
        await connection.RunAsync("""
            insert into collaborators (app_uid, user_id, role) values (@Uid, @Id, @role::app_role)
            on conflict (app_uid, user_id) do update set role = excluded.role
            """, new { row.Uid, user.Id, role = AppRow.Word(role) }, cancel);
        if (await connection.FirstAsync<long>("select count(*) from collaborators where app_uid = @Uid", row, cancel) > Most)
            throw Problem.BadRequest($"An app has {Most} collaborators at most; give it to a team.");
        await transaction.CommitAsync(cancel);
        if (caller.Audit is { } entry)
            entry.Detail = AppRow.Word(role);
        return TypedResults.Ok(new Collaborator(user.Email, AppRow.Word(role)));
    }

    private static async Task<NoContent> RemoveAsync(string app, string email, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        return await db.RunAsync("""
            delete from collaborators where app_uid = @Uid and user_id = (select id from users where lower(email) = lower(@email))
            """, new { row.Uid, email }, cancel) > 0 ? TypedResults.NoContent()
            : throw Problem.NotFound($"{row.Name} has no collaborator of this email.");
    }
}
