using Appoxy.Routerd.Database;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Users;

/// <summary><c>/v1/account</c>: what one is and may oneself. <c>/v1/invitations</c>: how one gets a password.</summary>
internal static class Accounts
{
    public static void MapAccount(this WebApplication app)
    {
        app.MapGet("/v1/account", ShowAsync).RequireScope(Scope.Read).WithAppTokens()
            .WithSummary("Who one is, by this token, and what one may have");
        app.MapPut("/v1/account/password", ChangePasswordAsync).RequireScope(Scope.Write)
            .WithSummary("Sets one's own password, and ends all other sign-ins");
        app.MapPost("/v1/invitations/accept", AcceptAsync).OpenToAll().WithSummary("Sets a password by an invitation, once");
    }

    public static string ScopeOf(string role) => role == Caller.AdminRole ? "admin" : "write";

    private static async Task<Ok<Account>> ShowAsync(Caller caller, NpgsqlDataSource db, Quotas quotas, CancellationToken cancel)
    {
        var user = await db.FirstAsync<UserRow>($"select {UserRow.Columns} from users where id = @Id", caller, cancel);
        var app = caller.App is null ? null : await db.FirstAsync<string>("select name from apps where uid = @App", caller, cancel);
        var owner = QuotaOwner.Of(user!);
        return TypedResults.Ok(new Account(caller.Email, user!.Role, caller.Scope.ToString().ToLowerInvariant(), caller.TokenName, app,
            await TeamsAsync(db, caller.Id, cancel), quotas.InForce(owner), await quotas.UsageAsync(db, owner, cancel)));
    }

    public static async Task<IReadOnlyList<string>> TeamsAsync(NpgsqlDataSource db, long user, CancellationToken cancel) =>
        await db.ListAsync<string>(
            "select t.name from teams t join team_members m on m.team_id = t.id where m.user_id = @user order by t.name", new { user }, cancel);

    private static async Task<NoContent> ChangePasswordAsync(
        NewPassword body, Caller caller, HttpContext http, NpgsqlDataSource db, CancellationToken cancel)
    {
        var password = SignIn.NewPassword(body.Password);
        await SignIn.CheckAsync(caller.Email, body.Current, "password change", http, db, cancel);
        await SetPasswordAsync(db, caller.Id, await SignIn.HashAsync(password, cancel), caller.Token, null, null, cancel);
        return TypedResults.NoContent();
    }

    private static async Task<Ok<Account>> AcceptAsync(AcceptedInvitation body, HttpContext http, NpgsqlDataSource db, CancellationToken cancel)
    {
        SignIn.Slow(http);
        var password = SignIn.NewPassword(body.Password);
        var invitation = Secrets.HashToken(body.Token ?? "");
        var user = await db.FirstAsync<UserRow>("""
            select u.* from invitations i join users u on u.id = i.user_id
            where i.hash = @invitation and i.expires_at > now() and u.disabled_at is null
            """, new { invitation }, cancel);
        if (user is null || !await SetPasswordAsync(db, user.Id, await SignIn.HashAsync(password, cancel), 0, invitation, new Audits.AuditRow
        {
            UserId = user.Id, UserEmail = user.Email, Token = "invitation", Operation = "POST /v1/invitations/accept",
            Target = $"/v1/users/{user.Email}", Client = ClientAddress.Of(http).ToString(), Status = 200,
        }, cancel))
            throw Problem.NotFound("This invitation is unknown, used, or too old.");
        return TypedResults.Ok(new Account(user.Email, user.Role, ScopeOf(user.Role)));
    }

    /// <summary>Ends all sign-ins but one. False if the invitation that it is done by has been used meanwhile.</summary>
    private static async Task<bool> SetPasswordAsync(
        NpgsqlDataSource db, long user, string hash, long keep, byte[]? invitation, Audits.AuditRow? entry, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        if (invitation is not null && await connection.RunAsync("delete from invitations where hash = @invitation", new { invitation }, cancel) == 0)
            return false;
        await connection.RunAsync("update users set password_hash = @hash where id = @user", new { user, hash }, cancel);
        await connection.RunAsync("delete from tokens where user_id = @user and kind <> 'token' and id <> @keep", new { user, keep }, cancel);
        if (entry is not null)
            await Audits.Audit.AddAsync(connection, entry, cancel);
        await transaction.CommitAsync(cancel);
        return true;
    }
}
