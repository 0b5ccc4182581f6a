using Appoxy.Routerd.Database;
using Appoxy.Routerd.Servers;
using Npgsql;

namespace Appoxy.Routerd.Apps;

/// <summary>Takes destroyed apps off their droid-servers, as soon as those can be told.</summary>
internal sealed class Removals(NpgsqlDataSource db, DroidServers servers, ILogger<Removals> log) : Rounds(TimeSpan.FromSeconds(3), log)
{
    private static readonly ParallelOptions Width = new() { MaxDegreeOfParallelism = 4 };

    protected override async Task RoundAsync(CancellationToken cancel)
    {
        var due = await db.ListAsync<(string Uid, string Server)>("select app_uid, server from removals limit 100", null, cancel);
        Problem? fault = null;
        await Parallel.ForEachAsync(due, Width, async (removal, _) =>
        {
            try
            {
                await TakeAsync(removal.Uid, removal.Server, cancel);
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
}
