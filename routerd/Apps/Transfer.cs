using Appoxy.Routerd.Database;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Apps;

/// <summary><c>POST /v1/apps/{app}/transfer</c>: gives an app to another owner, with all that belongs to it.</summary>
internal static class Transfer
{
    public static async Task<NoContent> ToAsync(
        string app, NewOwner body, Caller caller, NpgsqlDataSource db, Quotas quotas, CancellationToken cancel)
    {
        if (body is { Email: null, Team: null } or { Email: not null, Team: not null })
            throw Problem.BadRequest("Give one of email and team.");
        // Nobody is given what they did not ask for: by users an app goes to a team of theirs, or from a team to themselves.
        if (body.Email is not null && !caller.Admin && !string.Equals(body.Email, caller.Email, StringComparison.OrdinalIgnoreCase))
            throw Problem.Forbidden("Only admins give apps to other users; add a collaborator, or give it to a team.");
        var owner = body.Email is null ? (long?)null : (await UserEndpoints.FindAsync(db, body.Email, cancel)).Id;
        var team = body.Team is null ? (long?)null : await Teams.RequireAsync(db, caller, body.Team, AppRole.Manage, cancel);
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var row = await AppRow.LockAsync(connection, caller, app, cancel);
        if (await connection.FirstAsync<bool>("""
            select routing ? 'canary' or exists (select 1 from apps o where o.routing -> 'canary' ->> 'uid' = a.uid)
            from apps a where uid = @Uid
            """, row, cancel))
            throw Problem.Conflict($"{row.Name} has a canary or is one; turn that off first.");
        await connection.RunAsync("update apps set owner_id = @owner, team_id = @team where uid = @Uid", new { row.Uid, owner, team }, cancel);
        // Who owns it needs no role beside.
        await connection.RunAsync("delete from collaborators where app_uid = @Uid and user_id = @owner", new { row.Uid, owner }, cancel);
        await quotas.CheckAppAsync(connection, row.Uid, Growth.Apps | Growth.Memory | Growth.Cpus, cancel);
        await transaction.CommitAsync(cancel);
        if (caller.Audit is { } entry)
            entry.Detail = "to " + (body.Email ?? "team " + body.Team);
        return TypedResults.NoContent();
    }
}
