using System.Globalization;
using System.Text;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Routes;

/// <summary>
/// Writes all routes to the file from which the global nginx fills its dict at a start, so that it can start while Redis is away.
/// While Postgres is away, the last file stands.
/// </summary>
internal sealed class RouteSnapshot(RouterdSettings settings, NpgsqlDataSource db, ILogger<RouteSnapshot> log, TimeProvider time)
    : Rounds(TimeSpan.FromMilliseconds(500), log)
{
    private long written = -1;

    protected override async Task RoundAsync(CancellationToken cancel)
    {
        var path = settings.Nginx.Snapshot;
        await using var connection = await db.OpenConnectionAsync(cancel);
        if (await connection.FirstAsync<long>("select version from route_version", null, cancel) == written && File.Exists(path))
            return;
        var begun = time.GetTimestamp();
        await using var transaction = await connection.BeginTransactionAsync(System.Data.IsolationLevel.RepeatableRead, cancel);
        var version = await connection.FirstAsync<long>("select version from route_version", null, cancel);
        var next = path + ".next";
        await using (var file = new StreamWriter(next, append: false, new UTF8Encoding(false), 64 << 10))
        {
            await file.WriteAsync(string.Create(CultureInfo.InvariantCulture, $"version {version}\n"));
            // Before the routes that name them.
            await foreach (var page in RouteOptions.ReadAsync(connection, cancel))
            {
                foreach (var (id, json) in page)
                    await file.WriteAsync($"={id} {json}\n");
            }
            await foreach (var page in RoutePages.ReadAsync(connection, cancel))
            {
                foreach (var (host, target) in page)
                    await file.WriteAsync($"{host} {target}\n");
            }
            await file.FlushAsync(cancel);
            ((FileStream)file.BaseStream).Flush(flushToDisk: true);
        }
        File.Move(next, path, overwrite: true);
        written = version;
        // A long file that changes all the time is written a tenth of the time at most.
        await Task.Delay(9 * time.GetElapsedTime(begun), time, cancel);
    }
}
