using System.Text.Json;
using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Routing;

/// <summary>
/// <c>/v1/apps/{app}/routing</c>: what the global nginx does with requests before they reach the app. A row changed is all it takes:
/// a trigger tells the publisher, as with a domain.
/// </summary>
internal static class RoutingEndpoints
{
    public static void MapRouting(this RouteGroupBuilder v1)
    {
        v1.MapGet("/apps/{app}/routing", GetAsync).RequireScope(Scope.Read);
        v1.MapPatch("/apps/{app}/routing", ChangeAsync).RequireScope(Scope.Write);
    }

    private static async Task<Ok<AppRouting>> GetAsync(
        string app, Caller caller, HttpContext http, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var stored = await db.FirstAsync<string>("select routing from apps where uid = @Uid", row, cancel) ?? "{}";
        ETags.Send(http, stored);
        return TypedResults.Ok(StoredRouting.Read(stored).Show());
    }

    private static async Task<Ok<AppRouting>> ChangeAsync(
        string app, AppRouting body, Caller caller, HttpContext http, NpgsqlDataSource db, RouterdSettings settings, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var row = await AppRow.LockAsync(connection, caller, app, cancel);
        var before = await connection.FirstAsync<string>("select routing from apps where uid = @Uid", row, cancel) ?? "{}";
        ETags.Require(http, before);
        var stored = StoredRouting.Read(before);
        _ = Quantities.TryParseBytes(settings.Nginx.MaxBody, out var maxBody);
        var changed = await RoutingChange.ApplyAsync(stored, body, maxBody,
            canary => FindCanaryAsync(connection, row, canary, caller, settings.Domain, cancel));
        ETags.Send(http, (await connection.FirstAsync<string>("update apps set routing = @routing::jsonb where uid = @Uid returning routing",
            new { row.Uid, routing = JsonSerializer.Serialize(changed, StoredRoutingJson.Default.StoredRouting) }, cancel))!);
        await transaction.CommitAsync(cancel);
        return TypedResults.Ok(changed.Show());
    }

    /// <summary>The app that is to get a share of another's visitors: one of the same owner, and a canary never has one of its own.</summary>
    private static async Task<(string Uid, string Host)> FindCanaryAsync(
        NpgsqlConnection connection, AppRow app, string canary, Caller caller, string domain, CancellationToken cancel)
    {
        var found = await connection.FirstAsync<(string Uid, bool Chained)?>("""
            select c.uid, c.routing ? 'canary' or exists (select 1 from apps o where o.routing -> 'canary' ->> 'uid' = a.uid)
            from apps c join apps a on a.uid = @Uid
            where c.name = @canary and c.owner_id is not distinct from a.owner_id and c.team_id is not distinct from a.team_id
              and (@Admin or role_in_app(c.uid, c.owner_id, c.team_id, @Id) >= 'manage')
            """, new { app.Uid, canary, caller.Admin, caller.Id }, cancel);
        if (found is not { } other)
            throw Problem.BadRequest($"canary: the owner of {app.Name} has no other app '{canary}'.");
        if (other.Uid == app.Uid)
            throw Problem.BadRequest("canary: an app can't be its own; deploy the new generation as an app of its own.");
        if (other.Chained)
            throw Problem.BadRequest($"canary: {app.Name} is a canary, or {canary} has one; canaries do not chain.");
        return (other.Uid, $"{canary}.{domain}");
    }
}
