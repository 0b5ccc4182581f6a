using System.Security.Claims;
using Appoxy.Routerd.Audits;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Users;

/// <summary>Who the provider says that it is.</summary>
/// <param name="Issuer">The provider.</param>
/// <param name="Subject">What it knows the person as, for ever.</param>
/// <param name="Email">Null where the provider does not vouch for one.</param>
/// <param name="Admin">Whether it says that this is an admin; null where it has no say in it.</param>
internal sealed record OidcIdentity(string Issuer, string Subject, string? Email, bool? Admin)
{
    private const int MaxSubject = 255;

    /// <exception cref="Problem">403: the provider tells too little.</exception>
    public static OidcIdentity Of(ClaimsPrincipal principal, OidcSettings settings)
    {
        var (issuer, subject) = (principal.FindFirstValue("iss"), principal.FindFirstValue("sub"));
        if (issuer is null || subject is not { Length: > 0 and <= MaxSubject } || subject.Any(char.IsControl))
            throw Problem.Forbidden("The sign-in provider does not tell who you are.");
        // The id token and the userinfo endpoint may each tell; what they do not agree on is not believed.
        string[] emails = [.. principal.FindAll("email").Select(c => c.Value).Distinct(StringComparer.OrdinalIgnoreCase)];
        var vouched = principal.FindAll("email_verified").Select(c => c.Value).ToList();
        var email = emails is [var one] && SignIn.IsEmail(one) && vouched.Count > 0
            && vouched.All(v => string.Equals(v, "true", StringComparison.OrdinalIgnoreCase)) ? one : null;
        return new OidcIdentity(issuer, subject, email, settings.Admin is { } admin ? principal.HasClaim(admin.Name, admin.Value) : null);
    }
}

/// <summary>
/// Finds the user behind an identity. Issuer and subject are what counts; the email only lets one in for the first time, and only if the
/// provider has verified it.
/// </summary>
internal static class OidcUsers
{
    /// <summary>The user; noted in the audit log, as is a refusal.</summary>
    /// <param name="who">As the provider says.</param>
    /// <param name="asked">The name of what is asked for.</param>
    /// <param name="http">Of the request.</param>
    /// <param name="settings">Who may come in.</param>
    /// <param name="db">Postgres.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="Problem">403: this one may not come in.</exception>
    public static async Task<UserRow> SignInAsync(
        OidcIdentity who, string asked, HttpContext http, OidcSettings settings, NpgsqlDataSource db, CancellationToken cancel)
    {
        var entry = new AuditRow
        {
            Operation = "sign in", Token = asked, Client = ClientAddress.Of(http).ToString(), Status = 200, Detail = "by " + who.Issuer,
        };
        try
        {
            await using var connection = await db.OpenConnectionAsync(cancel);
            await using var transaction = await connection.BeginTransactionAsync(cancel);
            var (user, news) = await FindAsync(connection, who, settings, cancel);
            await Audit.AddAsync(connection, entry with { UserId = user.Id, UserEmail = user.Email, Detail = entry.Detail + news }, cancel);
            await transaction.CommitAsync(cancel);
            return user;
        }
        catch (Problem refused)
        {
            var known = who.Email is null ? null
                : await db.FirstAsync<UserRow>($"select {UserRow.Columns} from users where lower(email) = lower(@Email)", who, cancel);
            await Audit.AddAsync(db, entry with
            {
                UserId = known?.Id, UserEmail = known?.Email ?? "", Status = refused.Status, Detail = $"{entry.Detail}: {refused.Message}",
            }, cancel);
            throw;
        }
    }

    private static async Task<(UserRow User, string News)> FindAsync(
        NpgsqlConnection connection, OidcIdentity who, OidcSettings settings, CancellationToken cancel)
    {
        // Before any row is locked, as all do who change roles.
        var admins = who.Admin is null ? 0 : await UserEndpoints.LockAdminsAsync(connection, cancel);
        var news = "";
        var user = await connection.FirstAsync<UserRow>("""
            select u.* from users u join identities i on i.user_id = u.id where i.issuer = @Issuer and i.subject = @Subject for update of u
            """, who, cancel);
        if (user is null)
        {
            user = await BindAsync(connection, who, settings, cancel);
            news = ", for the first time";
        }
        if (user.DisabledAt is not null)
            throw Problem.Forbidden("Your account here is disabled; ask an admin.");
        var role = who.Admin switch { true => Caller.AdminRole, false => "member", null => user.Role };
        if (role == user.Role)
            return (user, news);
        // As everywhere, the last admin stays one.
        if (user.Role == Caller.AdminRole && admins <= 1)
            return (user, $"{news}, stays the last admin");
        await connection.RunAsync("update users set role = @role where id = @Id", new { user.Id, role }, cancel);
        return (user with { Role = role }, $"{news}, role {role}");
    }

    /// <summary>Lets somebody in for the first time, and knows them by their subject from then on.</summary>
    private static async Task<UserRow> BindAsync(NpgsqlConnection connection, OidcIdentity who, OidcSettings settings, CancellationToken cancel)
    {
        if (who.Email is not { } email)
            throw Problem.Forbidden("The sign-in provider vouches for no email address of yours (email_verified), so that nobody here knows who you are.");
        if (settings.LetsIn(email))
            await connection.RunAsync("insert into users (email, password_hash, role) values (@email, '', 'member') on conflict (lower(email)) do nothing",
                new { email }, cancel);
        var user = await connection.FirstAsync<UserRow>(
            $"select {UserRow.Columns} from users where lower(email) = lower(@email) for update", new { email }, cancel)
            ?? throw Problem.Forbidden($"{email} was not invited; ask an admin.");
        if (user.DisabledAt is null && await connection.RunAsync("""
            insert into identities (issuer, subject, user_id) values (@Issuer, @Subject, @Id) on conflict do nothing
            """, new { who.Issuer, who.Subject, user.Id }, cancel) == 0)
            throw Problem.Forbidden($"{email} belongs to another account of the sign-in provider; ask an admin.");
        await connection.RunAsync("delete from invitations where user_id = @Id and exists (select from identities where user_id = @Id)", user, cancel);
        return user;
    }
}
