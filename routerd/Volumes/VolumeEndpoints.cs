using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Volumes;

/// <summary><c>/v1/apps/{app}/volumes</c>: create, list, export, import and remove.</summary>
internal static class VolumeEndpoints
{
    private const int MaxVolumes = 10;

    public static void MapVolumes(this RouteGroupBuilder v1)
    {
        var group = v1.MapGroup("/apps/{app}/volumes");
        group.MapGet("", ListAsync).RequireScope(Scope.Read);
        group.MapPost("", CreateAsync).RequireScope(Scope.Write);
        group.MapDelete("/{volume}", RemoveAsync).RequireScope(Scope.Write);
        group.MapGet("/{volume}/files", ExportAsync).RequireScope(Scope.Write);
        group.MapPut("/{volume}/files", ImportAsync).RequireScope(Scope.Write);
    }

    private static async Task<Ok<Page<Volume>>> ListAsync(
        string app, Caller caller, NpgsqlDataSource db, DroidServers servers, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var volumes = await db.ListAsync<VolumeRow>(
            "select id, name, path, created_at from volumes where app_uid = @Uid order by name", row, cancel);
        Dictionary<string, long>? held = null;
        try
        {
            held = volumes.Count == 0 ? [] : (await servers[row.Server].VolumesAsync(row.Uid, cancel)).ToDictionary(v => v.Id, v => v.Bytes);
        }
        catch (Problem)
        {
            // The droid-server is away; that there are volumes is known without it.
        }
        return TypedResults.Ok(new Page<Volume>([.. volumes.Select(v => v.Show(held is null ? null : held.GetValueOrDefault(v.Id)))]));
    }

    private static async Task<Created<Volume>> CreateAsync(
        string app, NewVolume body, Caller caller, NpgsqlDataSource db, DroidServers servers, CancellationToken cancel)
    {
        if (!VolumeRules.IsName(body.Name))
            throw Problem.BadRequest("name: give up to 32 of a-z, 0-9 and dashes, starting with a letter.");
        var path = body.Path ?? "/" + body.Name;
        if (!VolumeRules.IsPath(path))
            throw Problem.BadRequest($"path: give {VolumeRules.PathExample}.");
        var (uid, volume) = await StoreAsync(app, body.Name, path, caller, db, cancel);
        await servers.PushAsync(uid, cancel);
        return TypedResults.Created($"/v1/apps/{app}/volumes/{body.Name}", volume.Show(0));
    }

    private static async Task<(string Uid, VolumeRow Volume)> StoreAsync(
        string app, string name, string path, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var row = await AppRow.LockAsync(connection, caller, app, cancel);
        if (await connection.FirstAsync<int>("select count(*)::int from volumes where app_uid = @Uid", row, cancel) >= MaxVolumes)
            throw Problem.Conflict($"An app has at most {MaxVolumes} volumes.");
        try
        {
            var volume = await connection.FirstAsync<VolumeRow>("""
                insert into volumes (id, app_uid, name, path) values (@id, @Uid, @name, @path) returning id, name, path, created_at
                """, new { id = Names.NewUid(), row.Uid, name, path }, cancel);
            await connection.RunAsync("update apps set generation = generation + 1 where uid = @Uid", row, cancel);
            await transaction.CommitAsync(cancel);
            return (row.Uid, volume!);
        }
        catch (PostgresException e) when (e.Violates("volumes_name"))
        {
            throw Problem.Conflict($"{app} has a volume {name} already.");
        }
        catch (PostgresException e) when (e.Violates("volumes_path"))
        {
            throw Problem.Conflict($"{app} has a volume at {path} already.");
        }
    }

    private static async Task<NoContent> RemoveAsync(
        string app, string volume, Caller caller, NpgsqlDataSource db, DroidServers servers, VolumeRemovals removals, CancellationToken cancel)
    {
        var uid = await ForgetAsync(app, volume, caller, db, cancel);
        await servers.PushAsync(uid, cancel);
        removals.Wake();
        return TypedResults.NoContent();
    }

    private static async Task<string> ForgetAsync(string app, string volume, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var row = await AppRow.LockAsync(connection, caller, app, cancel);
        var gone = await connection.RunAsync("""
            with gone as (delete from volumes where app_uid = @Uid and name = @volume returning id, app_uid)
            insert into volume_removals (volume_id, app_uid, server) select id, app_uid, @Server from gone
            """, new { row.Uid, volume, row.Server }, cancel);
        if (gone == 0)
            throw Unknown(app);
        await connection.RunAsync("update apps set generation = generation + 1 where uid = @Uid", row, cancel);
        await transaction.CommitAsync(cancel);
        return row.Uid;
    }

    private static async Task ExportAsync(
        string app, string volume, Caller caller, HttpContext http, NpgsqlDataSource db, DroidServers servers, CancellationToken cancel)
    {
        var (row, id) = await FindAsync(app, volume, caller, db, cancel);
        using var source = await servers[row.Server].OpenVolumeAsync(row.Uid, id, cancel);
        http.Features.GetRequiredFeature<IHttpResponseBodyFeature>().DisableBuffering();
        http.Response.ContentType = "application/gzip";
        http.Response.Headers["X-Accel-Buffering"] = "no";
        await using var files = await source.Content.ReadAsStreamAsync(cancel);
        await files.CopyToAsync(http.Response.Body, cancel);
    }

    private static async Task<NoContent> ImportAsync(
        string app, string volume, Caller caller, HttpContext http, NpgsqlDataSource db, DroidServers servers, CancellationToken cancel)
    {
        var (row, id) = await FindAsync(app, volume, caller, db, cancel);
        // The droid-server has a limit of its own.
        http.Features.GetRequiredFeature<IHttpMaxRequestBodySizeFeature>().MaxRequestBodySize = null;
        await servers[row.Server].FillVolumeAsync(row.Uid, id, http.Request.Body, cancel);
        return TypedResults.NoContent();
    }

    private static async Task<(AppRow App, string Id)> FindAsync(
        string app, string volume, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        return (row, await db.FirstAsync<string>("select id from volumes where app_uid = @Uid and name = @volume", new { row.Uid, volume }, cancel)
            ?? throw Unknown(app));
    }

    private static Problem Unknown(string app) => Problem.NotFound($"{app} has no volume of this name.");

    private sealed record VolumeRow
    {
        public string Id { get; init; } = "";
        public string Name { get; init; } = "";
        public string Path { get; init; } = "";
        public DateTime CreatedAt { get; init; }

        public Volume Show(long? bytes) => new(Name, Path, CreatedAt, bytes);
    }
}
