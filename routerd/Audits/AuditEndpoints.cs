using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Audits;

/// <summary><c>/v1/audit</c>: for admins all of it, for others what they did and what was done with apps that they own.</summary>
internal static class AuditEndpoints
{
    public static void MapAudit(this RouteGroupBuilder v1) => v1.MapGet("/audit", ListAsync).RequireScope(Scope.Write)
        .WithSummary("Who did what, newest first: for admins all, for others what they did and what was done with their own apps");

    private static async Task<Ok<Page<AuditItem>>> ListAsync(
        string? app, string? user, string? since, [AsParameters] Paging paging, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var from = DateTimeOffset.MinValue;
        if (since is not null && !Quantities.TryParseMoment(since, DateTimeOffset.UtcNow, out from))
            throw Problem.BadRequest("since: give an age such as 24h, or a time such as 2026-11-25T10:00:00Z.");
        // An admin also finds what was done with an app that is gone.
        var uid = app is null ? null : caller.Admin ? await db.FirstAsync<string>("select uid from apps where name = @app", new { app }, cancel)
            : (await AppRow.FindAsync(db, caller with { Needs = AppRole.Owner }, app, cancel)).Uid;
        var rows = await db.ListAsync<AuditRow>(Listed(caller.Admin, app is not null, user is not null, since is not null), new
        {
            caller.Id, app, uid, user, since = from.UtcDateTime, before = paging.Number ?? long.MaxValue, paging.Rows,
        }, cancel);
        var next = paging.Cut(rows, r => $"{r.Id}");
        return TypedResults.Ok(new Page<AuditItem>([.. rows.Select(r => new AuditItem(r.Id, r.At, Some(r.UserEmail), Some(r.Token), r.Operation,
            r.Target, Some(r.Client), r.Status, Some(r.Detail)))], next));
    }

    /// <summary>
    /// SQL of a page. Each of its parts reads backwards through one index and stops when it has enough, so that a page costs the same however
    /// long the log is.
    /// </summary>
    internal static string Listed(bool admin, bool ofApp, bool ofUser, bool since)
    {
        string[] parts = (admin, ofApp) switch
        {
            (true, true) => [Part("app_uid = @uid"), Part($"{AppInTarget} = @app")],
            (true, false) => [Part("true")],
            (false, true) => [Part("app_uid = @uid")],
            _ => [Part("user_id = @Id"), $"""
                (select a.* from (select uid from apps where owner_id = @Id
                    union select uid from apps where team_id in (select team_id from team_members where user_id = @Id and role = 'owner')) own
                  cross join lateral {Part("app_uid = own.uid")} a)
                """],
        };
        return $"select distinct on (id) * from ({string.Join(" union all ", parts)}) found order by id desc limit @Rows";

        // Times rise with the ids, but for those that are written at once.
        string Part(string which) => $"""
            (select id, at, user_id, user_email, token, operation, target, app_uid, client, status, detail from audit
             where {which} and id < @before {(ofUser ? "and lower(user_email) = lower(@user)" : "")}
               {(since ? "and at >= @since and id >= (select min(id) from (select id from audit where at >= @since order by at limit 1000) first)" : "")}
             order by id desc limit @Rows)
            """;
    }

    /// <summary>SQL: the app that an entry's target names, as the index has it.</summary>
    private const string AppInTarget = "substring(target from '^/v1/apps/([^/]+)')";

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
        await db.RunAsync("delete from sign_in_codes where expires_at < now()", null, cancel);
        await db.RunAsync("delete from tokens where expires_at < now() - interval '30 days'", null, cancel);
        await db.RunAsync($"""
            delete from audit where id in (select id from audit where at < now() - make_interval(days => @AuditDays) order by at limit {AtOnce})
            """, new { settings.AuditDays }, cancel);
    }
}
