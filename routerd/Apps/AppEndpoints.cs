using System.Text.Json;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Deployments;
using Appoxy.Routerd.Placements;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Apps;

/// <summary><c>/v1/apps</c>: create, list, show, change and destroy.</summary>
internal static class AppEndpoints
{
    private static readonly string[] Reserved = ["console", "www", "api", "admin", "appoxy"];

    public static void MapApps(this RouteGroupBuilder v1)
    {
        var apps = v1.MapGroup("/apps");
        apps.MapGet("", ListAsync).RequireScope(Scope.Read).WithAppTokens();
        apps.MapPost("", CreateAsync).RequireScope(Scope.Write);
        apps.MapGet("/{app}", GetAsync).RequireScope(Scope.Read);
        apps.MapPatch("/{app}", ChangeAsync).RequireScope(Scope.Write);
        apps.MapDelete("/{app}", DestroyAsync).RequireScope(Scope.Write, AppRole.Owner);
        apps.MapGet("/{app}/env", AppEnv.GetAsync).RequireScope(Scope.Write);
        apps.MapPatch("/{app}/env", AppEnv.ChangeAsync).RequireScope(Scope.Write);
        apps.MapPost("/{app}/transfer", Transfer.ToAsync).RequireScope(Scope.Write, AppRole.Owner)
            .WithSummary("Gives an app to a team or, by an admin, to a user").ProducesProblem(409);
        apps.MapGet("/{app}/scale", Scale.GetAsync).RequireScope(Scope.Read);
        apps.MapPatch("/{app}/scale", Scale.ChangeAsync).RequireScope(Scope.Deploy);
    }

    private static async Task<Ok<Page<App>>> ListAsync(
        [AsParameters] Paging paging, Caller caller, NpgsqlDataSource db, RouterdSettings settings, CancellationToken cancel)
    {
        var rows = await AppRow.ListAsync(db, caller, paging, cancel);
        var next = paging.Cut(rows, r => r.Name);
        return TypedResults.Ok(new Page<App>(await ShowAsync(db, settings, rows, cancel), next));
    }

    private static async Task<Ok<App>> GetAsync(
        string app, Caller caller, HttpContext http, NpgsqlDataSource db, RouterdSettings settings, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        ETags.Send(http, row.Settings);
        return TypedResults.Ok(await ShowAsync(db, settings, row, cancel));
    }

    private static async Task<Created<App>> CreateAsync(
        NewApp body, Caller caller, NpgsqlDataSource db, RouterdSettings settings, DroidServers servers, Quotas quotas,
        CancellationToken cancel)
    {
        if (!Names.IsAppName(body.Name))
            throw Problem.BadRequest(
                "An app's name has 2 to 40 characters: a-z, 0-9 and single dashes, the first a letter, the last no dash.");
        if (Reserved.Contains(body.Name) || servers.Known.Any(s => s.Name == body.Name))
            throw Problem.BadRequest($"The name '{body.Name}' is reserved; choose another.");
        long? team = body.Team is null ? null : await Teams.RequireAsync(db, caller, body.Team, AppRole.Manage, cancel);
        var stored = Settings.Merge(new AppSettings(), body.Settings ?? new AppSettings(), caller.Admin);
        var values = new
        {
            uid = Names.NewUid(),
            name = body.Name,
            owner = team is null ? caller.Id : (long?)null,
            team,
            settings = JsonSerializer.Serialize(stored, AppoxyJson.Default.AppSettings),
            host = $"{body.Name}.{settings.Domain}",
        };
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        try
        {
            await connection.RunAsync(
                "insert into apps (uid, name, owner_id, team_id, settings) values (@uid, @name, @owner, @team, @settings::jsonb)", values, cancel);
            await quotas.CheckAppAsync(connection, values.uid, Growth.Apps | Growth.Memory | Growth.Cpus, cancel);
            // Placed before it has a domain, so that its route appears in one change.
            await Fleet.PlaceAsync(connection, values.uid, settings.MemoryOvercommit, cancel);
            await connection.RunAsync("insert into domains (hostname, app_uid) values (@host, @uid)", values, cancel);
            await transaction.CommitAsync(cancel);
        }
        catch (PostgresException e) when (e.Violates("apps_name_key"))
        {
            throw Problem.Conflict($"There is an app '{body.Name}' already; choose another name.");
        }
        catch (PostgresException e) when (e.Violates("domains_pkey"))
        {
            throw Problem.Conflict($"{values.host} belongs to another app; choose another name.");
        }
        var row = await AppRow.FindAsync(db, caller, body.Name, cancel);
        return TypedResults.Created($"/v1/apps/{body.Name}", await ShowAsync(db, settings, row, cancel));
    }

    private static async Task<Ok<App>> ChangeAsync(
        string app, AppSettings body, Caller caller, HttpContext http, NpgsqlDataSource db, RouterdSettings settings, DroidServers servers,
        Quotas quotas, CancellationToken cancel)
    {
        if (await StoreAsync(app, body, caller, http, db, quotas, cancel) is { } changed)
            await servers.PushAsync(changed, cancel);
        return await GetAsync(app, caller, http, db, settings, cancel);
    }

    /// <summary>The app's uid if anything changed.</summary>
    private static async Task<string?> StoreAsync(
        string app, AppSettings change, Caller caller, HttpContext http, NpgsqlDataSource db, Quotas quotas, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var row = await AppRow.LockAsync(connection, caller, app, cancel);
        ETags.Require(http, row.Settings);
        var stored = Settings.Read(row.Settings);
        var merged = Settings.Merge(stored, change, caller.Admin);
        if (merged == stored)
            return null;
        var settings = JsonSerializer.Serialize(merged, AppoxyJson.Default.AppSettings);
        await connection.RunAsync("update apps set settings = @settings::jsonb, generation = generation + 1 where uid = @Uid",
            new { row.Uid, settings }, cancel);
        await quotas.CheckAppAsync(connection, row.Uid, Quotas.Between((row.Settings, row.Formation), (settings, row.Formation)), cancel);
        if (caller.Audit is { } entry)
            entry.Detail = string.Join(", ", AppSetting.All.Where(s => s.Of(change) is not null).Select(s => s.Name));
        await transaction.CommitAsync(cancel);
        return row.Uid;
    }

    private static async Task<NoContent> DestroyAsync(
        string app, Caller caller, NpgsqlDataSource db, Removals removals, CancellationToken cancel)
    {
        var gone = await DeleteAsync(app, caller, db, cancel);
        await removals.TryTakeAsync(gone.Uid, gone.Server, cancel);
        return TypedResults.NoContent();
    }

    private static async Task<AppRow> DeleteAsync(string app, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var row = await AppRow.LockAsync(connection, caller, app, cancel);
        await connection.RunAsync("""
            insert into removals (app_uid, server)
            select app_uid, server from placements where app_uid = @Uid
            union select app_uid, target from moves where app_uid = @Uid and target is not null
            on conflict (app_uid, server) do update set generation = null, route_version = null
            """, row, cancel);
        await connection.RunAsync("delete from apps where uid = @Uid", row, cancel);
        await transaction.CommitAsync(cancel);
        return row;
    }

    private static async Task<App> ShowAsync(NpgsqlDataSource db, RouterdSettings settings, AppRow row, CancellationToken cancel) =>
        (await ShowAsync(db, settings, [row], cancel))[0];

    private static async Task<List<App>> ShowAsync(
        NpgsqlDataSource db, RouterdSettings settings, List<AppRow> rows, CancellationToken cancel)
    {
        var uids = rows.Select(r => r.Uid).ToArray();
        var domains = (await db.ListAsync<(string Uid, string Hostname)>(
                "select app_uid, hostname from domains where app_uid = any(@uids) order by created_at, hostname", new { uids }, cancel))
            .ToLookup(d => d.Uid, d => d.Hostname);
        var newest = (await DeploymentRow.NewestAsync(db, uids, cancel)).ToDictionary(d => d.AppUid);
        var moves = await Moves.ListAsync(db, uids, cancel);
        return [.. rows.Select(r => new App
        {
            Name = r.Name,
            Uid = r.Uid,
            Url = settings.Url($"{r.Name}.{settings.Domain}"),
            GitUrl = settings.Url($"console.{settings.Domain}") + $"/git/{r.Name}.git",
            Owner = r.Owner,
            Role = AppRow.Word(r.Role),
            Server = r.Server,
            Domains = [.. domains[r.Uid]],
            Settings = Settings.InForce(r.Settings),
            Move = moves.GetValueOrDefault(r.Uid),
            Deployment = newest.GetValueOrDefault(r.Uid)?.Show(),
            CreatedAt = r.CreatedAt,
        })];
    }
}
