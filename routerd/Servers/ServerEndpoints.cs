using Appoxy.Routerd.Database;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Servers;

/// <summary><c>/v1/servers</c>: the droid-servers and how they are.</summary>
internal static class ServerEndpoints
{
    public static void MapServers(this RouteGroupBuilder v1)
    {
        var group = v1.MapGroup("/servers").RequireScope(Scope.Admin);
        group.MapGet("", async (DroidServers servers, NpgsqlDataSource db, CancellationToken cancel) =>
            TypedResults.Ok(new Page<Server>(await Task.WhenAll(servers.Known.Select(s => ShowAsync(s, servers, db, cancel))))));
        group.MapGet("/{name}", GetAsync);
    }

    private static async Task<Ok<Server>> GetAsync(string name, DroidServers servers, NpgsqlDataSource db, CancellationToken cancel)
    {
        var server = servers.Known.FirstOrDefault(s => s.Name == name)
            ?? throw Problem.NotFound(Names.IsServerName(name) ? $"There is no droid-server '{name}'."
                : "There is no droid-server of this name.");
        return TypedResults.Ok(await ShowAsync(server, servers, db, cancel));
    }

    private static async Task<Server> ShowAsync(ServerSettings server, DroidServers servers, NpgsqlDataSource db, CancellationToken cancel)
    {
        var apps = await db.FirstAsync<int>("select count(*)::int from placements where server = @Name", server, cancel);
        ServerStatus? status = null;
        try
        {
            status = await servers[server.Name].StatusAsync(cancel);
        }
        catch (Problem)
        {
            // Shown as down.
        }
        return new Server { Name = server.Name, Address = server.Address, Up = status is not null, Apps = apps, Status = status };
    }
}
