using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Users;

/// <summary><c>/v1/teams</c>: users who own apps together. Who is in none of its rows does not learn that a team is there.</summary>
internal static class Teams
{
    private const int MaxMembers = 500;

    public static void MapTeams(this RouteGroupBuilder v1)
    {
        var teams = v1.MapGroup("/teams");
        teams.MapGet("", ListAsync).RequireScope(Scope.Read).WithSummary("The teams that one is in; for admins all");
        teams.MapPost("", CreateAsync).RequireScope(Scope.Write).WithSummary("Makes a team, of which one is the first owner").ProducesProblem(409);
        teams.MapGet("/{team}", GetAsync).RequireScope(Scope.Read).WithSummary("A team and its members").ProducesProblem(404);
        teams.MapPatch("/{team}", ChangeAsync).RequireScope(Scope.Admin).WithSummary("Changes a team's quota").ProducesProblem(404);
        teams.MapDelete("/{team}", DeleteAsync).RequireScope(Scope.Write).WithSummary("Removes a team that owns no app").ProducesProblem(409);
        teams.MapPut("/{team}/members/{email}", SetMemberAsync).RequireScope(Scope.Write)
            .WithSummary("Takes a user into a team, or changes what a member may").ProducesProblem(409);
        teams.MapDelete("/{team}/members/{email}", RemoveMemberAsync).RequireScope(Scope.Write).WithSummary("Puts a member out of a team")
            .ProducesProblem(409);
    }

    /// <summary>The team's id.</summary>
    /// <exception cref="Problem">404: there is none, or the caller is not in it. 403: the caller's role in it is too small.</exception>
    public static async Task<long> RequireAsync(NpgsqlDataSource db, Caller caller, string name, AppRole least, CancellationToken cancel) =>
        (await FindAsync(db, caller, name, least, cancel)).Id;

    private static async Task<TeamRow> FindAsync(NpgsqlDataSource db, Caller caller, string name, AppRole least, CancellationToken cancel)
    {
        var found = Names.IsAppName(name) ? await db.FirstAsync<TeamRow>("""
            select t.id, t.name, t.quota, coalesce(m.role::text, 'owner') as role
            from teams t left join team_members m on m.team_id = t.id and m.user_id = @Id
            where t.name = @name and (@Admin or m.role is not null)
            """, new { caller.Id, caller.Admin, name }, cancel) : null;
        if (found is null)
            throw Problem.NotFound(Names.IsAppName(name) ? $"There is no team '{name}'." : "There is no team of this name.");
        return caller.Admin || found.Role >= least ? found : throw Problem.Forbidden(
            $"In the team {name} you have the role {AppRow.Word(found.Role)}; this needs {AppRow.Word(least)}.");
    }

    /// <summary>A page of all teams, or of those that <c>@Id</c> is in.</summary>
    internal static string Listed(bool all) => $"""
        select t.name, (select count(*)::int from apps where team_id = t.id) from teams t
        where t.name > @after {(all ? "" : "and t.id in (select team_id from team_members where user_id = @Id)")} order by t.name limit @Rows
        """;

    private static async Task<Ok<Page<Team>>> ListAsync([AsParameters] Paging paging, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var teams = await db.ListAsync<(string Name, int Apps)>(Listed(caller.Admin), new { caller.Id, after = paging.After ?? "", paging.Rows }, cancel);
        var next = paging.Cut(teams, t => t.Name);
        return TypedResults.Ok(new Page<Team>([.. teams.Select(t => new Team { Name = t.Name, Apps = t.Apps })], next));
    }

    private static async Task<Created<Team>> CreateAsync(Team body, Caller caller, NpgsqlDataSource db, Quotas quotas, CancellationToken cancel)
    {
        if (!Names.IsAppName(body.Name))
            throw Problem.BadRequest("A team's name has 2 to 40 characters: a-z, 0-9 and single dashes, the first a letter, the last no dash.");
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        try
        {
            var team = await connection.FirstAsync<long>("insert into teams (name) values (@Name) returning id", new { body.Name }, cancel);
            await connection.RunAsync("insert into team_members (team_id, user_id, role) values (@team, @Id, 'owner')",
                new { team, caller.Id }, cancel);
            var user = await connection.FirstAsync<UserRow>($"select {UserRow.Columns} from users where id = @Id", new { caller.Id }, cancel);
            await quotas.CheckAsync(connection, QuotaOwner.Of(user!), Growth.Teams, cancel);
            await transaction.CommitAsync(cancel);
        }
        catch (PostgresException e) when (e.Violates("teams_name_key"))
        {
            throw Problem.Conflict($"There is a team '{body.Name}' already; choose another name.");
        }
        return TypedResults.Created($"/v1/teams/{body.Name}", await ShowAsync(body.Name!, caller, db, quotas, cancel));
    }

    private static async Task<Ok<Team>> GetAsync(string team, Caller caller, NpgsqlDataSource db, Quotas quotas, CancellationToken cancel) =>
        TypedResults.Ok(await ShowAsync(team, caller, db, quotas, cancel));

    private static async Task<Team> ShowAsync(string name, Caller caller, NpgsqlDataSource db, Quotas quotas, CancellationToken cancel)
    {
        var team = await FindAsync(db, caller, name, AppRole.View, cancel);
        var members = await db.ListAsync<(string Email, string Role)>("""
            select u.email, m.role::text from team_members m join users u on u.id = m.user_id where m.team_id = @Id order by lower(u.email)
            """, new { team.Id }, cancel);
        var owner = new QuotaOwner(null, team.Id, team.Quota, false);
        var used = await quotas.UsageAsync(db, owner, cancel);
        return new Team
        {
            Name = team.Name,
            Apps = int.Parse(used.Apps!),
            Members = [.. members.Select(m => new Collaborator(m.Email, m.Role))],
            Quota = quotas.InForce(owner) with { Teams = null },
            Usage = used,
        };
    }

    private static async Task<Ok<Team>> ChangeAsync(
        string team, Team body, Caller caller, NpgsqlDataSource db, Quotas quotas, CancellationToken cancel)
    {
        if (body is not { Quota: { } change, Name: null, Members: null, Apps: null, Usage: null })
            throw Problem.BadRequest("Give quota alone.");
        var row = await FindAsync(db, caller, team, AppRole.Owner, cancel);
        await db.RunAsync("update teams set quota = @quota::jsonb where id = @Id", new { row.Id, quota = Quotas.Merge(row.Quota, change) }, cancel);
        return TypedResults.Ok(await ShowAsync(team, caller, db, quotas, cancel));
    }

    private static async Task<NoContent> DeleteAsync(string team, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await FindAsync(db, caller, team, AppRole.Owner, cancel);
        try
        {
            await db.RunAsync("delete from teams where id = @Id", new { row.Id }, cancel);
        }
        catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.ForeignKeyViolation)
        {
            throw Problem.Conflict($"The team {row.Name} owns apps; transfer or destroy them first.");
        }
        return TypedResults.NoContent();
    }

    private static async Task<Ok<Collaborator>> SetMemberAsync(
        string team, string email, Collaborator body, Caller caller, NpgsqlDataSource db, Quotas quotas, CancellationToken cancel)
    {
        var role = Collaborators.Role(body.Role ?? "deploy", AppRole.Owner);
        var row = await FindAsync(db, caller, team, AppRole.Owner, cancel);
        var user = await UserEndpoints.FindAsync(db, email, cancel);
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        await LockAsync(connection, row, cancel);
        await connection.RunAsync("""
            insert into team_members (team_id, user_id, role) values (@team, @user, @role::app_role)
            on conflict (team_id, user_id) do update set role = excluded.role
            """, new { team = row.Id, user = user.Id, role = AppRow.Word(role) }, cancel);
        await RequireOwnerAsync(connection, row, cancel);
        if (await connection.FirstAsync<long>("select count(*) from team_members where team_id = @Id", new { row.Id }, cancel) > MaxMembers)
            throw Problem.BadRequest($"A team has {MaxMembers} members at most.");
        await transaction.CommitAsync(cancel);
        if (caller.Audit is { } entry)
            entry.Detail = AppRow.Word(role);
        return TypedResults.Ok(new Collaborator(user.Email, AppRow.Word(role), row.Name));
    }

    private static async Task<NoContent> RemoveMemberAsync(string team, string email, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        // Everybody may leave.
        var leaves = string.Equals(email, caller.Email, StringComparison.OrdinalIgnoreCase);
        var row = await FindAsync(db, caller, team, leaves ? AppRole.View : AppRole.Owner, cancel);
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        await LockAsync(connection, row, cancel);
        if (await connection.RunAsync("""
            delete from team_members where team_id = @Id and user_id = (select id from users where lower(email) = lower(@email))
            """, new { row.Id, email }, cancel) == 0)
            throw Problem.NotFound($"The team {row.Name} has no member of this email.");
        await RequireOwnerAsync(connection, row, cancel);
        await transaction.CommitAsync(cancel);
        return TypedResults.NoContent();
    }

    private static Task LockAsync(NpgsqlConnection connection, TeamRow team, CancellationToken cancel) =>
        connection.RunAsync("select 1 from teams where id = @Id for no key update", new { team.Id }, cancel);

    private static async Task RequireOwnerAsync(NpgsqlConnection connection, TeamRow team, CancellationToken cancel)
    {
        if (!await connection.FirstAsync<bool>("select exists (select 1 from team_members where team_id = @Id and role = 'owner')", new { team.Id }, cancel))
            throw Problem.Conflict($"The team {team.Name} would have no owner; make another member one first.");
    }

    private sealed record TeamRow
    {
        public long Id { get; init; }
        public string Name { get; init; } = "";
        public string Quota { get; init; } = "{}";
        public AppRole Role { get; init; }
    }
}
