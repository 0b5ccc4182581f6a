using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Deployments;
using Appoxy.Routerd.Placements;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Droids;

/// <summary>The droids of apps: their state, what can be done with them, and their logs.</summary>
internal static class DroidEndpoints
{
    /// <summary>Shown where the droid-server can't say.</summary>
    private const string Unknown = "unknown";

    private const int MaxPolls = 300;
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(200);

    public static void MapDroids(this RouteGroupBuilder v1)
    {
        v1.MapGet("/droids", ListAllAsync).RequireScope(Scope.Read).WithAppTokens();
        v1.MapGet("/apps/{app}/droids", ListAsync).RequireScope(Scope.Read);
        v1.MapGet("/apps/{app}/logs", LogsAsync).RequireScope(Scope.Read);
        foreach (var desired in new[] { "start", "stop" })
        {
            v1.MapPost($"/apps/{{app}}/{desired}",
                (string app, Caller caller, NpgsqlDataSource db, DroidServers servers, CancellationToken cancel) =>
                DesireAsync(app, desired, caller, db, servers, cancel)).RequireScope(Scope.Deploy);
        }
        foreach (var action in new[] { "restart", "snooze", "wake" })
        {
            v1.MapPost($"/apps/{{app}}/{action}", (string app, Caller caller, NpgsqlDataSource db, DroidServers servers,
                CancellationToken cancel) =>
                ActAsync(app, action, caller, db, servers, cancel)).RequireScope(Scope.Deploy);
        }
    }

    private static async Task<Ok<Page<DroidStatus>>> ListAllAsync(
        [AsParameters] Paging paging, Caller caller, NpgsqlDataSource db, DroidServers servers, CancellationToken cancel)
    {
        var apps = await AppRow.ListAsync(db, caller, paging, cancel);
        var next = paging.Cut(apps, a => a.Name);
        var newest = (await DeploymentRow.NewestAsync(db, [.. apps.Select(a => a.Uid)], cancel)).ToDictionary(d => d.AppUid);
        var seen = new Dictionary<string, Dictionary<string, DroidStatus>?>();
        foreach (var (server, asked) in apps.Select(a => a.Server).Distinct().Select(s => (s, AskAsync(servers, s, cancel))).ToList())
            seen[server] = await asked;
        var moves = await Moves.ListAsync(db, [.. apps.Select(a => a.Uid)], cancel);
        return TypedResults.Ok(new Page<DroidStatus>([.. apps.Select(a => (seen[a.Server] is { } droids
            ? droids.GetValueOrDefault(a.Uid) ?? Absent(a, newest.GetValueOrDefault(a.Uid))
            : Away(a)) with { Move = moves.GetValueOrDefault(a.Uid) })], next));
    }

    private static async Task<Dictionary<string, DroidStatus>?> AskAsync(DroidServers servers, string server, CancellationToken cancel)
    {
        try
        {
            return (await servers[server].ListAsync(cancel)).ToDictionary(d => d.Uid);
        }
        catch (Problem)
        {
            return null;
        }
    }

    private static async Task<Ok<Page<DroidStatus>>> ListAsync(
        string app, Caller caller, NpgsqlDataSource db, DroidServers servers, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var moves = await Moves.ListAsync(db, [row.Uid], cancel);
        return TypedResults.Ok(new Page<DroidStatus>([await StatusAsync(row, db, servers, cancel) with { Move = moves.GetValueOrDefault(row.Uid) }]));
    }

    private static async Task<DroidStatus> StatusAsync(AppRow row, NpgsqlDataSource db, DroidServers servers, CancellationToken cancel)
    {
        try
        {
            return await servers[row.Server].FindAsync(row.Uid, cancel)
                ?? Absent(row, (await DeploymentRow.NewestAsync(db, [row.Uid], cancel)).FirstOrDefault());
        }
        catch (Problem)
        {
            return Away(row);
        }
    }

    private static DroidStatus Away(AppRow app) => new()
    {
        Uid = app.Uid, App = app.Name, Generation = app.Generation, State = Unknown, Error = $"droid-server {app.Server} does not answer",
    };

    /// <summary>The droid-server has nothing of it yet, or no more.</summary>
    private static DroidStatus Absent(AppRow app, DeploymentRow? newest)
    {
        var (state, error) = newest switch
        {
            null => (DroidStates.Stopped, "nothing is deployed yet"),
            { FinishedAt: null } or { State: DeploymentStates.Live } => (DroidStates.Building, null),
            _ => (DroidStates.Failed, newest.Error),
        };
        return new DroidStatus { Uid = app.Uid, App = app.Name, Generation = app.Generation, State = state, Error = error };
    }

    /// <summary>Changes what is wanted, and waits for a while until it is so.</summary>
    private static async Task<Ok<DroidStatus>> DesireAsync(
        string app, string action, Caller caller, NpgsqlDataSource db, DroidServers servers, CancellationToken cancel)
    {
        var row = await RequireLiveAsync(app, caller, db, cancel);
        var desired = action == "start" ? DroidStates.Running : DroidStates.Stopped;
        await db.RunAsync("update apps set desired = @desired, generation = generation + 1 where uid = @Uid and desired <> @desired",
            new { row.Uid, desired }, cancel);
        try
        {
            var status = await servers.PutAsync(row.Uid, cancel);
            for (var polls = 0; polls < MaxPolls && status is { State: var state }
                && (state == DroidStates.Stopped) == (action == "start"); polls++)
            {
                await Task.Delay(Poll, cancel);
                status = await servers[row.Server].FindAsync(row.Uid, cancel);
            }
            return TypedResults.Ok(status ?? Absent(row, null));
        }
        catch (Problem e) when (e.Status == 503)
        {
            throw Problem.Unavailable($"Droid-server {row.Server} does not answer; {row.Name} will {action} as soon as it does.");
        }
    }

    private static async Task<Ok<DroidStatus>> ActAsync(
        string app, string action, Caller caller, NpgsqlDataSource db, DroidServers servers, CancellationToken cancel)
    {
        var row = await RequireLiveAsync(app, caller, db, cancel);
        return TypedResults.Ok(await servers[row.Server].ActAsync(row.Uid, action, cancel));
    }

    private static async Task<AppRow> RequireLiveAsync(string app, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        return await db.FirstAsync<bool>("select exists (select 1 from deployments where app_uid = @Uid and state = 'live')", row, cancel)
            ? row
            : throw Problem.Conflict($"{row.Name} has nothing live yet; deploy it first.");
    }

    private static async Task LogsAsync(
        string app, bool? follow, string? tail, string? since, Caller caller, HttpContext http, NpgsqlDataSource db, DroidServers servers,
        CancellationToken cancel)
    {
        var lines = 0;
        if (tail is not null && !(int.TryParse(tail, out lines) && lines is >= 0 and <= 100_000))
            throw Problem.BadRequest("tail: give a number of lines up to 100000.");
        if (since is not null && !Quantities.TryParseMoment(since, DateTimeOffset.UtcNow, out _))
            throw Problem.BadRequest("since: give an age such as 10m, or a time such as 2026-11-25T10:00:00Z.");
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var query = (follow == true ? "?follow=true" : "?follow=false")
            + (tail is null ? "" : $"&tail={lines}") + (since is null ? "" : "&since=" + Uri.EscapeDataString(since));
        try
        {
            using var source = await servers[row.Server].OpenLogAsync(row.Uid, query, cancel);
            await using var target = LogRelay.Begin(http);
            if (follow == true)
                await LogRelay.FollowAsync(servers[row.Server], row.Uid, source, target, cancel);
            else
                await LogRelay.CopyAsync(source, target, skip: 0, cancel);
        }
        catch (Problem e) when (e.Status == 404)
        {
            throw Problem.NotFound($"{row.Name} has no log yet; deploy it first.");
        }
    }
}
