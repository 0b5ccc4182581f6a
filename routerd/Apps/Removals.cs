using Appoxy.Routerd.Database;
using Appoxy.Routerd.Routes;
using Appoxy.Routerd.Servers;
using Npgsql;

namespace Appoxy.Routerd.Apps;

/// <summary>Takes destroyed apps off their droid-servers, as soon as those can be told.</summary>
internal sealed class Removals(NpgsqlDataSource db, DroidServers servers, Redis redis, ILogger<Removals> log) : Rounds(TimeSpan.FromSeconds(3), log)
{
    private static readonly ParallelOptions Width = new() { MaxDegreeOfParallelism = 16 };

    protected override async Task RoundAsync(CancellationToken cancel)
    {
        // Not those of servers that are down, which would stand in the way; nor, whatever should be wrong, where the app is placed.
        var due = await db.ListAsync<(string Uid, string Server, long? Generation, long? RouteVersion)>("""
            select app_uid, server, generation, route_version from removals r join servers s on s.name = r.server
            where s.down_since is null and not exists (select 1 from placements p where p.app_uid = r.app_uid and p.server = r.server)
            limit 100
            """, null, cancel);
        // While Redis is away, who knows what the global nginxes know.
        var published = due.Exists(r => r.RouteVersion is not null) ? (long?)await redis.Database.StringGetAsync(Redis.Version) ?? -1 : 0;
        Problem? fault = null;
        await Parallel.ForEachAsync(due, Width, async (removal, _) =>
        {
            try
            {
                if (removal.RouteVersion is not { } version)
                    await TakeAsync(removal.Uid, removal.Server, cancel);
                else if (published >= version)
                    await TakeMovedAsync(removal.Uid, removal.Server, removal.Generation, cancel);
            }
            catch (Problem e)
            {
                fault = e;
            }
        });
        if (fault is not null)
            throw fault;
    }

    /// <summary>Does it now if the droid-server can be told; else a later round does.</summary>
    public async Task TryTakeAsync(string uid, string server, CancellationToken cancel)
    {
        try
        {
            await TakeAsync(uid, server, cancel);
        }
        catch (Problem)
        {
            // The row is still there.
        }
    }

    private async Task TakeAsync(string uid, string server, CancellationToken cancel)
    {
        await servers.DeleteAsync(uid, server, cancel);
        await db.RunAsync("delete from removals where app_uid = @uid and server = @server", new { uid, server }, cancel);
    }

    /// <summary>Removes a droid that serves elsewhere by now, once requests come no more.</summary>
    private async Task TakeMovedAsync(string uid, string server, long? generation, CancellationToken cancel)
    {
        try
        {
            await servers[server].DeleteAsync(uid, generation, drain: true, cancel);
        }
        catch (Problem e) when (e.Status == 412)
        {
            // The app has come back there.
        }
        await db.RunAsync("delete from removals where app_uid = @uid and server = @server and generation is not distinct from @generation",
            new { uid, server, generation }, cancel);
    }
}
