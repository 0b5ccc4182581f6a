using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Audits;

/// <summary><c>/v1/audit</c>: for admins all of it, for others what they did and what was done with apps that they own.</summary>
internal static class AuditEndpoints
{
    private const int MaxListed = 1000;

    public static void MapAudit(this RouteGroupBuilder v1) => v1.MapGet("/audit", ListAsync).RequireScope(Scope.Write)
        .WithSummary("Who did what, newest first: for admins all, for others what they did and what was done with their own apps");

    private static async Task<Ok<Page<AuditItem>>> ListAsync(
        string? app, string? user, string? since, long? before, int? limit, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var from = DateTimeOffset.MinValue;
        if (since is not null && !Quantities.TryParseMoment(since, DateTimeOffset.UtcNow, out from))
            throw Problem.BadRequest("since: give an age such as 24h, or a time such as 2026-11-25T10:00:00Z.");
        if (limit is < 1 or > MaxListed)
            throw Problem.BadRequest($"limit must be from 1 to {MaxListed}.");
        // An admin also finds what was done with an app that is gone.
        var uid = app is null || caller.Admin ? null : (await AppRow.FindAsync(db, caller with { Needs = AppRole.Owner }, app, cancel)).Uid;
        var rows = await db.ListAsync<AuditRow>($"""
            select id, at, user_id, user_email, token, operation, target, app_uid, client, status, detail from audit
            where (@since::timestamptz is null or at >= @since) and (@before::bigint is null or id < @before)
              and (@uid::text is null or app_uid = @uid) and (@user::text is null or lower(user_email) = lower(@user))
              {(caller.Admin && app is not null ? "and (app_uid = (select uid from apps where name = @app) or target = @path or target like @below)" : "")}
              {(caller.Admin || uid is not null ? "" : "and (user_id = @Id or app_uid in (select uid from apps where owner_id = @Id or team_id in (select team_id from team_members where user_id = @Id and role = 'owner')))")}
            order by id desc limit @limit
            """, new
            {
                since = since is null ? (DateTime?)null : from.UtcDateTime, before, uid, user, caller.Id, app, path = "/v1/apps/" + app,
                below = $"/v1/apps/{app}/%", limit = limit ?? 100,
            }, cancel);
        return TypedResults.Ok(new Page<AuditItem>([.. rows.Select(r => new AuditItem(r.Id, r.At, Some(r.UserEmail), Some(r.Token), r.Operation,
            r.Target, Some(r.Client), r.Status, Some(r.Detail)))]));
    }

    private static string? Some(string text) => text.Length > 0 ? text : null;
}

/// <summary>Forgets what is too old: entries of the audit log, tokens and invitations that have ended.</summary>
internal sealed class Pruning(NpgsqlDataSource db, RouterdSettings settings, ILogger<Pruning> log) : Rounds(TimeSpan.FromHours(1), log)
{
    // So that a round never holds much, nor long.
    private const int AtOnce = 10_000;

    protected override async Task RoundAsync(CancellationToken cancel)
    {
        await db.RunAsync("delete from invitations where expires_at < now()", null, cancel);
        await db.RunAsync("delete from tokens where expires_at < now() - interval '30 days'", null, cancel);
        await db.RunAsync($"""
            delete from audit where id in (select id from audit where at < now() - make_interval(days => @AuditDays) order by at limit {AtOnce})
            """, new { settings.AuditDays }, cancel);
    }
}
