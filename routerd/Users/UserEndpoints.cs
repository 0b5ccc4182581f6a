using Appoxy.Routerd.Database;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Users;

/// <summary><c>/v1/users</c>, for admins: invite, list, change, disable and remove.</summary>
internal static class UserEndpoints
{
    private static readonly TimeSpan InvitationLasts = TimeSpan.FromDays(3);
    private static readonly string[] Roles = [Caller.AdminRole, "member"];

    public static void MapUsers(this RouteGroupBuilder v1)
    {
        var users = v1.MapGroup("/users").RequireScope(Scope.Admin);
        users.MapGet("", ListAsync).WithSummary("All users");
        users.MapPost("", InviteAsync).WithSummary("Invites a user, or again one who has no password yet").ProducesProblem(409);
        users.MapGet("/{email}", GetAsync).WithSummary("A user, with teams, quota and what is used of it").ProducesProblem(404);
        users.MapPatch("/{email}", ChangeAsync).WithSummary("Changes a user's role or quota, disables or enables").ProducesProblem(409);
        users.MapDelete("/{email}", RemoveAsync).WithSummary("Removes a user who owns nothing any more").ProducesProblem(409);
        users.MapDelete("/{email}/identities", UnlinkAsync)
            .WithSummary("Forgets what sign-in providers know a user as, and ends sign-ins; the next one by a verified email says anew").ProducesProblem(409);
        users.MapPost("/{email}/reset-password", ResetAsync).WithSummary("An invitation to set a new password");
    }

    internal const string Listed = $"{ShownUser.Select} where lower(email) > @after order by lower(email) limit @Rows";

    private static async Task<Ok<Page<User>>> ListAsync([AsParameters] Paging paging, NpgsqlDataSource db, CancellationToken cancel)
    {
        var users = await db.ListAsync<ShownUser>(Listed, new { after = paging.After ?? "", paging.Rows }, cancel);
        var next = paging.Cut(users, u => u.Key);
        return TypedResults.Ok(new Page<User>([.. users.Select(u => u.Show())], next));
    }

    private static async Task<Ok<User>> GetAsync(string email, NpgsqlDataSource db, Quotas quotas, CancellationToken cancel)
    {
        var user = await db.FirstAsync<ShownUser>($"{ShownUser.Select} where lower(email) = lower(@email)", new { email }, cancel)
            ?? throw Unknown(email);
        var owner = new QuotaOwner(user.Id, null, user.Quota, user.Role == Caller.AdminRole);
        return TypedResults.Ok(user.Show() with
        {
            Teams = await Accounts.TeamsAsync(db, user.Id, cancel), Quota = quotas.InForce(owner), Usage = await quotas.UsageAsync(db, owner, cancel),
            Providers = await db.ListAsync<string>("select issuer from identities where user_id = @Id order by issuer", new { user.Id }, cancel),
        });
    }

    private static async Task<Created<Invitation>> InviteAsync(NewUser body, NpgsqlDataSource db, CancellationToken cancel)
    {
        if (!SignIn.IsEmail(body.Email))
            throw Problem.BadRequest("email: give an email address.");
        var role = Checked(body.Role ?? "member");
        // A user who has not come yet may be invited again, also as another; one who is there is changed by other means.
        var id = await db.FirstAsync<long?>($"""
            insert into users (email, password_hash, role) values (@Email, '', @role)
            on conflict (lower(email)) do update set role = excluded.role where {NotCome} and users.disabled_at is null
            returning id
            """, new { body.Email, role }, cancel) ?? throw Problem.Conflict($"{body.Email} is a user already.");
        return TypedResults.Created($"/v1/users/{Uri.EscapeDataString(body.Email!)}", await NewInvitationAsync(db, id, body.Email!, cancel));
    }

    private static async Task<Created<Invitation>> ResetAsync(string email, NpgsqlDataSource db, CancellationToken cancel)
    {
        var user = await FindAsync(db, email, cancel);
        if (user.DisabledAt is not null)
            throw Problem.Conflict($"{user.Email} is disabled; enable first.");
        return TypedResults.Created((string?)null, await NewInvitationAsync(db, user.Id, user.Email, cancel));
    }

    private static async Task<Invitation> NewInvitationAsync(NpgsqlDataSource db, long user, string email, CancellationToken cancel)
    {
        var (token, expires) = (Secrets.NewInvitation(), DateTime.UtcNow + InvitationLasts);
        await db.RunAsync("""
            insert into invitations (user_id, hash, expires_at) values (@user, @hash, @expires)
            on conflict (user_id) do update set hash = excluded.hash, expires_at = excluded.expires_at, created_at = now()
            """, new { user, hash = Secrets.HashToken(token), expires }, cancel);
        return new Invitation(email, token, expires);
    }

    private static async Task<Ok<User>> ChangeAsync(
        string email, UserChange body, Caller caller, NpgsqlDataSource db, Quotas quotas, CancellationToken cancel)
    {
        var user = await FindAsync(db, email, cancel);
        var change = new
        {
            user.Id,
            role = body.Role is null ? null : Checked(body.Role),
            body.Disabled,
            quota = body.Quota is null ? null : Quotas.Merge(user.Quota, body.Quota),
        };
        await using (var connection = await db.OpenConnectionAsync(cancel))
        await using (var transaction = await connection.BeginTransactionAsync(cancel))
        {
            var admins = await LockAdminsAsync(connection, cancel);
            await connection.RunAsync("""
                update users set role = coalesce(@role, role), quota = coalesce(@quota::jsonb, quota),
                  disabled_at = case when @Disabled is null then disabled_at when @Disabled then coalesce(disabled_at, now()) end
                where id = @Id
                """, change, cancel);
            if (body.Disabled == true)
            {
                await connection.RunAsync("delete from tokens where user_id = @Id", change, cancel);
                await connection.RunAsync("delete from invitations where user_id = @Id", change, cancel);
            }
            await RequireAdminAsync(connection, admins, cancel);
            await transaction.CommitAsync(cancel);
        }
        if (caller.Audit is { } entry)
            entry.Detail = string.Join(", ", new[]
            {
                body.Role is null ? null : "role " + body.Role, body.Disabled switch { true => "disabled", false => "enabled", null => null },
                body.Quota is null ? null : "quota",
            }.OfType<string>());
        return await GetAsync(user.Email, db, quotas, cancel);
    }

    private static async Task<NoContent> RemoveAsync(string email, NpgsqlDataSource db, CancellationToken cancel)
    {
        var user = await FindAsync(db, email, cancel);
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var admins = await LockAdminsAsync(connection, cancel);
        // Against apps that are just being made.
        await connection.RunAsync("select 1 from users where id = @Id for update", user, cancel);
        var owned = await connection.ListAsync<string>("""
            select 'app ' || name from apps where owner_id = @Id
            union all
            select 'team ' || t.name from teams t join team_members m on m.team_id = t.id
            where m.user_id = @Id and m.role = 'owner'
              and not exists (select 1 from team_members o where o.team_id = t.id and o.role = 'owner' and o.user_id <> @Id)
            limit 4
            """, user, cancel);
        if (owned.Count > 0)
            throw Problem.Conflict($"{user.Email} owns {string.Join(", ", owned.Take(3))}{(owned.Count > 3 ? " and more" : "")}; "
                + "transfer or destroy that first, or disable the user.");
        await connection.RunAsync("delete from users where id = @Id", user, cancel);
        await RequireAdminAsync(connection, admins, cancel);
        await transaction.CommitAsync(cancel);
        return TypedResults.NoContent();
    }

    private static async Task<NoContent> UnlinkAsync(string email, NpgsqlDataSource db, CancellationToken cancel)
    {
        var user = await FindAsync(db, email, cancel);
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var admins = await LockAdminsAsync(connection, cancel);
        await connection.RunAsync("delete from identities where user_id = @Id", user, cancel);
        await connection.RunAsync("delete from tokens where user_id = @Id and kind <> 'token'", user, cancel);
        await RequireAdminAsync(connection, admins, cancel);
        await transaction.CommitAsync(cancel);
        return TypedResults.NoContent();
    }

    /// <summary>SQL: whether a user has not come yet, neither by a password nor by a sign-in provider.</summary>
    private const string NotCome = "users.password_hash = '' and not exists (select from identities where user_id = users.id)";

    private const string Admins = $"select count(*) from users where role = 'admin' and disabled_at is null and not ({NotCome})";

    /// <summary>How many admins there are; none of them is changed by others until the transaction's end.</summary>
    public static async Task<long> LockAdminsAsync(NpgsqlConnection connection, CancellationToken cancel)
    {
        await connection.RunAsync("select pg_advisory_xact_lock(hashtext('appoxy admins'))", null, cancel);
        return await connection.FirstAsync<long>(Admins, null, cancel);
    }

    private static async Task RequireAdminAsync(NpgsqlConnection connection, long before, CancellationToken cancel)
    {
        if (before > 0 && await connection.FirstAsync<long>(Admins, null, cancel) == 0)
            throw Problem.Conflict("That is the last admin; make another user an admin first.");
    }

    public static async Task<UserRow> FindAsync(NpgsqlDataSource db, string email, CancellationToken cancel) =>
        await db.FirstAsync<UserRow>($"select {UserRow.Columns} from users where lower(email) = lower(@email)", new { email }, cancel)
            ?? throw Unknown(email);

    private static Problem Unknown(string email) =>
        Problem.NotFound(SignIn.IsEmail(email) ? $"There is no user {email}." : "There is no user with this email.");

    private static string Checked(string role) => Roles.Contains(role) ? role : throw Problem.BadRequest("role: give admin or member.");

    private sealed record ShownUser
    {
        public const string Select = $"""
            select id, email, lower(email) as key, role, disabled_at, {NotCome} as invited, created_at, quota,
                   (select count(*) from apps where owner_id = users.id) as apps,
                   (select max(last_used_at) from tokens where user_id = users.id) as last_seen_at
            from users
            """;

        public long Id { get; init; }
        public string Email { get; init; } = "";

        /// <summary>What the list is sorted by.</summary>
        public string Key { get; init; } = "";
        public string Role { get; init; } = "";
        public DateTime? DisabledAt { get; init; }
        public bool Invited { get; init; }
        public DateTime CreatedAt { get; init; }
        public string Quota { get; init; } = "{}";
        public int Apps { get; init; }
        public DateTime? LastSeenAt { get; init; }

        public User Show() => new(Email, Role, DisabledAt is not null ? "disabled" : Invited ? "invited" : "active", Apps, CreatedAt, LastSeenAt);
    }
}
