using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Placements;

/// <summary><c>POST /v1/apps/{app}/move</c>, <c>POST /v1/servers/rebalance</c>: for admins, whose machines these are.</summary>
internal static class MoveEndpoints
{
    public static void MapMoves(this RouteGroupBuilder v1)
    {
        v1.MapPost("/apps/{app}/move", MoveAsync).RequireScope(Scope.Admin);
        v1.MapPost("/servers/rebalance", RebalanceAsync).RequireScope(Scope.Admin);
    }

    private static async Task<Accepted<AppMove>> MoveAsync(
        string app, NewMove body, Caller caller, NpgsqlDataSource db, RouterdSettings settings, CancellationToken cancel)
    {
        if (body.Server is not null && !Names.IsServerName(body.Server))
            throw Problem.BadRequest("server: give a droid-server's name such as ds2.");
        if (body.Volumes is not null && !Moves.Volumes.Contains(body.Volumes))
            throw Problem.BadRequest("volumes: give none, copy or lose.");
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        await Moves.BeginAsync(db, row.Uid, body.Server, MoveReasons.Asked, body.Volumes ?? "none", settings.MemoryOvercommit, cancel);
        var moves = await Moves.ListAsync(db, [row.Uid], cancel);
        // It may be there already.
        return TypedResults.Accepted($"/v1/apps/{row.Name}", moves.GetValueOrDefault(row.Uid)
            ?? new AppMove(row.Server, body.Server, MoveReasons.Asked, "done", DateTimeOffset.UtcNow));
    }

    private static async Task<Ok<Page<PlannedMove>>> RebalanceAsync(
        bool? dryRun, NpgsqlDataSource db, RouterdSettings settings, CancellationToken cancel) =>
        TypedResults.Ok(new Page<PlannedMove>(dryRun == true ? await Rebalance.PlanAsync(db, settings, cancel)
            : await Rebalance.BeginAsync(db, settings, cancel)));
}
