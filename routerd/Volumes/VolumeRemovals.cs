using Appoxy.Routerd.Database;
using Appoxy.Routerd.Servers;
using Npgsql;

namespace Appoxy.Routerd.Volumes;

/// <summary>Has removed volumes deleted by their droid-servers, as soon as the last container that had one is gone.</summary>
internal sealed class VolumeRemovals(NpgsqlDataSource db, DroidServers servers, ILogger<VolumeRemovals> log) : Rounds(TimeSpan.FromSeconds(3), log)
{
    protected override async Task RoundAsync(CancellationToken cancel)
    {
        var due = await db.ListAsync<(string Id, string Uid, string Server)>(
            "select volume_id, app_uid, server from volume_removals limit 100", null, cancel);
        Problem? fault = null;
        foreach (var (id, uid, server) in due)
        {
            try
            {
                await servers[server].DeleteVolumeAsync(uid, id, cancel);
                await db.RunAsync("delete from volume_removals where volume_id = @id", new { id }, cancel);
            }
            catch (Problem e)
            {
                // A container that drains may have it for a while.
                fault = e.Status == 409 ? fault : e;
            }
        }
        if (fault is not null)
            throw fault;
    }
}
