using Appoxy.Routerd.Database;
using Npgsql;
using StackExchange.Redis;

namespace Appoxy.Routerd.Routes;

/// <summary>
/// Compares Redis with Postgres now and then, and has what differs published again. Differences are looked at twice, since the
/// first look may fall between a change and its publishing.
/// </summary>
internal sealed partial class RouteDrift(
    NpgsqlDataSource db, Redis redis, RouterdSettings settings, RouteMetrics metrics, ILogger log, TimeProvider time)
{
    private const int Most = 1000;
    private static readonly TimeSpan SecondLook = TimeSpan.FromSeconds(2);

    private readonly TimeSpan least =
        TimeSpan.FromSeconds(Quantities.TryParseSeconds(settings.CompareRoutes, out var seconds) ? seconds : 30);

    private TimeSpan took;

    /// <summary>So much differs that the publisher should build the whole table anew.</summary>
    public volatile bool TooMuch;

    /// <summary>Runs beside the leading publisher, until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancel)
    {
        string? fault = null;
        while (!cancel.IsCancellationRequested)
        {
            try
            {
                await RepairAsync(cancel);
                fault = null;
            }
            catch (Exception e) when (!cancel.IsCancellationRequested)
            {
                Outage.Count(e);
                if (fault != Outage.Words(e))
                    LogFault(log, Outage.Words(e));
                fault = Outage.Words(e);
            }
            catch (Exception)
            {
                return;
            }
            // With a million routes a comparison takes seconds; it shall not take more than a twentieth of the time. One that failed,
            // as at a start before Redis is connected, is made up for soon.
            var pause = TimeSpan.FromTicks(Math.Max((fault is null ? least : SecondLook).Ticks, 20 * took.Ticks));
            await Task.Delay(pause, time, cancel).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task RepairAsync(CancellationToken cancel)
    {
        var begun = time.GetTimestamp();
        var repaired = await RouteOptions.RepairAsync(db, redis, cancel);
        if (repaired > 0)
        {
            LogOptions(log, repaired);
            metrics.Repaired(repaired);
        }
        TooMuch |= repaired >= RouteOptions.Most;
        var suspects = await CompareAsync(cancel);
        took = time.GetElapsedTime(begun);
        metrics.Drift = 0;
        if (suspects.Count == 0)
            return;
        await Task.Delay(SecondLook, time, cancel);
        // More changes than that may just be under way.
        if (suspects.Count > Most)
            suspects.IntersectWith(await CompareAsync(cancel));
        if (suspects.Count > Most)
        {
            LogTooMuch(log, Most);
            metrics.Drift = suspects.Count;
            TooMuch = true;
            return;
        }
        string[] hosts = [.. suspects];
        var wanted = (await db.ListAsync<(string Hostname, string Target)>(
            "select hostname, target from routes where hostname = any(@hosts)", new { hosts }, cancel)).ToDictionary(r => r.Hostname, r =>
                r.Target);
        var held = await redis.Database.HashGetAsync(Redis.Routes, [.. hosts.Select(h => (RedisValue)h)]);
        hosts = [.. hosts.Where((h, i) => (string?)held[i] != wanted.GetValueOrDefault(h))];
        if (hosts.Length == 0)
            return;
        LogDrift(log, hosts.Length, hosts[0]);
        metrics.Drift = hosts.Length;
        await db.RunAsync("select route_changed(h) from unnest(@hosts) h", new { hosts }, cancel);
        metrics.Repaired(hosts.Length);
    }

    /// <summary>Hosts that Redis lacks, has otherwise, or has too many; stops when there are more than can be repaired singly.</summary>
    private async Task<HashSet<string>> CompareAsync(CancellationToken cancel)
    {
        var suspects = new HashSet<string>();
        await using var connection = await db.OpenConnectionAsync(cancel);
        await foreach (var page in RoutePages.ReadAsync(connection, cancel))
        {
            var held = await redis.Database.HashGetAsync(Redis.Routes, [.. page.Select(r => (RedisValue)r.Hostname)]);
            suspects.UnionWith(page.Where((r, i) => (string?)held[i] != r.Target).Select(r => r.Hostname));
            if (suspects.Count > Most)
                return suspects;
        }
        var found = new List<string>(RoutePages.Size);
        // The variant without values needs a Redis newer than Debian's.
        await foreach (var entry in redis.Database.HashScanAsync(Redis.Routes, pageSize: RoutePages.Size).WithCancellation(cancel))
        {
            found.Add(entry.Name.ToString());
            if (found.Count == RoutePages.Size)
                await TooManyAsync();
            if (suspects.Count > Most)
                return suspects;
        }
        await TooManyAsync();
        return suspects;

        async Task TooManyAsync()
        {
            string[] hosts = [.. found];
            suspects.UnionWith(hosts.Except(await connection.ListAsync<string>(
                "select hostname from routes where hostname = any(@hosts)", new { hosts }, cancel)));
            found.Clear();
        }
    }

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "Redis differed from Postgres in {Count} routes, {Host} among them: publishing them again")]
    private static partial void LogDrift(ILogger log, int count, string host);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Redis lacked the options of routes, {Count} of them: they are there again")]
    private static partial void LogOptions(ILogger log, int count);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Redis differs from Postgres in more than {Most} routes: building all anew")]
    private static partial void LogTooMuch(ILogger log, int most);

    [LoggerMessage(Level = LogLevel.Information, Message = "Redis can't be compared with Postgres now: {Fault}")]
    private static partial void LogFault(ILogger log, string fault);
}
