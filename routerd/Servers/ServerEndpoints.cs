using Appoxy.Cluster;
using Appoxy.Routerd.Cluster;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Servers;

/// <summary><c>/v1/servers</c>: the droid-servers and how they are, how new ones join, and how they go.</summary>
internal static class ServerEndpoints
{
    public static void MapServers(this RouteGroupBuilder v1)
    {
        var group = v1.MapGroup("/servers").RequireScope(Scope.Admin);
        group.MapGet("", async (DroidServers servers, NpgsqlDataSource db, CancellationToken cancel) =>
            TypedResults.Ok(new Page<Server>(await Task.WhenAll(servers.Known.Select(s => ShowAsync(s, servers, db, cancel))))));
        group.MapGet("/{name}", GetAsync);
        group.MapDelete("/{name}", RemoveAsync);
        group.MapPost("/join-tokens", async (NewJoinToken body, IServiceProvider services, CancellationToken cancel) =>
            TypedResults.Created((string?)null, await Joined<JoinTokens>(services).CreateAsync(body, cancel)));
        group.MapPost("/{name}/revoke", async (string name, IServiceProvider services, CancellationToken cancel) =>
            await Joined<ServerCertificates>(services).RevokeAsync(CheckName(name), cancel) is > 0 and var count
                ? TypedResults.Ok(new RevokedServer(name, count)) : throw Problem.NotFound($"'{name}' has no certificate that holds."));
    }

    private static async Task<Ok<Server>> GetAsync(string name, DroidServers servers, NpgsqlDataSource db, CancellationToken cancel)
    {
        var server = servers.Known.FirstOrDefault(s => s.Name == name)
            ?? throw Problem.NotFound(Names.IsServerName(name) ? $"There is no droid-server '{name}'."
                : "There is no droid-server of this name.");
        return TypedResults.Ok(await ShowAsync(server, servers, db, cancel));
    }

    private static async Task<NoContent> RemoveAsync(
        string name, DroidServers servers, RouterdSettings settings, IServiceProvider services, NpgsqlDataSource db, CancellationToken cancel)
    {
        if (settings.Servers.Any(s => s.Name == name))
            throw Problem.Conflict($"{name} is this machine, which can't be removed.");
        await using var connection = await db.OpenConnectionAsync(cancel);
        if (await connection.FirstAsync<int>("select count(*)::int from placements where server = @name", new { name }, cancel) is > 0 and var apps)
            throw Problem.Conflict($"{name} has {apps} apps; move them first.");
        if (await connection.RunAsync("delete from servers where name = @name", new { name }, cancel) == 0)
            throw Problem.NotFound(Names.IsServerName(name) ? $"There is no droid-server '{name}'." : "There is no droid-server of this name.");
        if (services.GetService<ServerCertificates>() is { } certificates)
            await certificates.RevokeAsync(name, cancel);
        await servers.RefreshAsync(cancel);
        return TypedResults.NoContent();
    }

    private static T Joined<T>(IServiceProvider services) where T : class => services.GetService<T>()
        ?? throw Problem.Conflict("No machine can join this one: run provision.sh --cluster-port 8443 --address IP here, or ask the control machine.");

    private static string CheckName(string name) =>
        Names.IsServerName(name) ? name : throw Problem.NotFound("There is no machine of this name.");

    private static async Task<Server> ShowAsync(ServerSettings server, DroidServers servers, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await db.FirstAsync<ServerRow>("""
            select (select count(*)::int from placements where server = s.name) as apps, last_seen,
                   (select max(not_after) from server_certificates where server = s.name and revoked_at is null) as certificate_ends,
                   extract(epoch from (heartbeat->>'clock')::timestamptz - last_seen)::float8 as clock_ahead
            from servers s where name = @Name
            """, server, cancel) ?? new ServerRow();
        ServerStatus? status = null;
        try
        {
            status = await servers[server.Name].StatusAsync(cancel);
        }
        catch (Problem)
        {
            // Shown as down.
        }
        return new Server
        {
            Name = server.Name, Address = server.Address, Up = status is not null, Apps = row.Apps, Status = status,
            LastSeen = row.LastSeen, CertificateEnds = row.CertificateEnds, ClockAhead = row.ClockAhead is { } ahead ? Math.Round(ahead, 1) : null,
        };
    }

    private sealed record ServerRow
    {
        public int Apps { get; init; }
        public DateTime? LastSeen { get; init; }
        public DateTime? CertificateEnds { get; init; }
        public double? ClockAhead { get; init; }
    }
}
