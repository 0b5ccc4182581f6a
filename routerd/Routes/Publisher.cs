using System.Globalization;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Servers;
using Npgsql;
using StackExchange.Redis;

namespace Appoxy.Routerd.Routes;

/// <summary>
/// Brings the routes from Postgres to Redis. One routerd leads, by a Postgres session lock, and the others stand by; changes are
/// applied in the order of their versions, through a script that refuses any writer who is not up to date.
/// </summary>
internal sealed partial class Publisher(
    NpgsqlDataSource db, Redis redis, DroidServers servers, RouterdSettings settings, RouteMetrics metrics, ILogger<Publisher> log,
    TimeProvider time) : Rounds(TimeSpan.FromMilliseconds(500), log)
{
    private const int LeaderLock = 7042;
    private const int Batch = 500;

    /// <summary>Changes older than these are no longer needed: whoever is further behind takes the whole table.</summary>
    private const int KeptChanges = 10_000;

    // A version beyond this is nothing that a Postgres of ours has counted to.
    private const long MaxVersion = 1L << 52;
    private static readonly TimeSpan Poll = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Upkeep = TimeSpan.FromSeconds(10);
    private static readonly string Apply = Redis.Script("apply.lua");
    private static readonly string Swap = Redis.Script("swap.lua");

    private readonly RouteDrift drift = new(db, redis, settings, metrics, log, time);

    /// <summary>Tries to lead; returns when another does, and throws when Postgres goes away.</summary>
    protected override async Task RoundAsync(CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        if (!await connection.FirstAsync<bool>("select pg_try_advisory_lock(@LeaderLock)", new { LeaderLock }, cancel))
            return;
        LogLeads(log);
        metrics.Leads = true;
        using var lead = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        var repairs = drift.RunAsync(lead.Token);
        try
        {
            await LeadAsync(connection, cancel);
        }
        finally
        {
            metrics.Leads = false;
            await lead.CancelAsync();
            await repairs;
            // The lock goes with the session: when the pool uses it again, or Postgres ends it for being idle, whichever comes first.
            await connection.CloseAsync();
        }
    }

    private async Task LeadAsync(NpgsqlConnection connection, CancellationToken cancel)
    {
        var notified = false;
        connection.Notification += (_, _) => notified = true;
        // A leader that stalls is dropped by Postgres, and another takes over; the scripts refuse it should it wake. It asks
        // something each second; while it reads the whole table, what is on its way may keep it busy with Redis for longer.
        await connection.RunAsync("""
            set idle_session_timeout = '5s'; set idle_in_transaction_session_timeout = '15s'; set tcp_user_timeout = '15s';
            listen appoxy_routes
            """, null, cancel);
        string? fault = null;
        long? upkeep = null;
        while (true)
        {
            notified = false;
            try
            {
                while (await PublishAsync(connection, cancel))
                    cancel.ThrowIfCancellationRequested();
                if (upkeep is null || time.GetElapsedTime(upkeep.Value) > Upkeep)
                {
                    await PublishServersAsync();
                    await connection.RunAsync(
                        "delete from route_changes where version <= (select version from route_version) - @KeptChanges",
                        new { KeptChanges }, cancel);
                    upkeep = time.GetTimestamp();
                }
                if (fault is not null)
                    LogRedisBack(log);
                fault = null;
            }
            catch (Exception e) when (Outage.IsRedis(e))
            {
                // No reason to give up the lead: the others most likely don't reach it either.
                Outage.Count(e);
                if (fault != Outage.Words(e))
                    LogRedisAway(log, Outage.Words(e));
                fault = Outage.Words(e);
                notified = false;
                metrics.Newest = await connection.FirstAsync<long>("select version from route_version", null, cancel);
            }
            // A notification that came during a query was taken then, and would not end the wait.
            if (!notified)
                await connection.WaitAsync(Poll, cancel);
        }
    }

    /// <summary>Applies the next batch; false when there is nothing more to do.</summary>
    private async Task<bool> PublishAsync(NpgsqlConnection connection, CancellationToken cancel)
    {
        var at = (string?)await redis.Database.StringGetAsync(Redis.Version) ?? "";
        if (!long.TryParse(at, NumberStyles.None, CultureInfo.InvariantCulture, out var published) || published > MaxVersion
            || drift.TooMuch)
        {
            await RebuildAsync(connection, at, cancel);
            return true;
        }
        metrics.Published = published;
        // Options that several hosts share come with the first of them.
        var asked = time.GetTimestamp();
        var changes = await connection.ListAsync<(long Version, string Hostname, string? Target, string? Options, double Age)>("""
            with changes as (
              select c.version, c.hostname, c.at, (r).target, (r).options
              from (select version, hostname, at from route_changes where version > @published order by version limit @Batch) c
              left join lateral (select r from routes r where r.hostname = c.hostname limit 1) r on true)
            select version, hostname, target,
                   case when row_number() over (partition by options order by version) = 1 then options::text end,
                   extract(epoch from clock_timestamp() - at)::float8
            from changes order by version
            """, new { published, Batch }, cancel);
        if (changes.Count == 0)
        {
            var newest = await connection.FirstAsync<long>("select version from route_version", null, cancel);
            metrics.Newest = newest;
            if (published > newest)
            {
                // Postgres was restored from a backup: it goes past what Redis has seen, so that versions never go back.
                LogBehind(log, newest, published);
                await connection.RunAsync("update route_version set version = greatest(version, @published) + 1", new { published },
                    cancel);
                await RebuildAsync(connection, at, cancel);
            }
            else if (published < newest)
            {
                // Every change since was pruned, or came between the two queries.
                return await connection.FirstAsync<bool>("select exists (select 1 from route_changes where version > @published)",
                    new { published }, cancel)
                    || await RebuildAsync(connection, at, cancel);
            }
            else if (!await redis.Database.KeyExistsAsync(Redis.Routes)
                     && await connection.FirstAsync<bool>("select exists (select 1 from routes)", null, cancel))
            {
                return await RebuildAsync(connection, at, cancel);
            }
            return false;
        }
        if (changes[0].Version != published + 1)
            return await RebuildAsync(connection, at, cancel);
        var options = changes.Where(c => c.Options is not null).Select(c => new RouteOptions(c.Target!.Split(' ')[^1], c.Options!)).ToList();
        var values = new List<RedisValue>(3 + (2 * options.Count) + (3 * changes.Count)) { Redis.Channel, at, options.Count };
        foreach (var (id, json) in options)
            values.AddRange([id, json]);
        foreach (var (version, hostname, target, _, _) in changes)
            values.AddRange([version, hostname, target ?? ""]);
        var applied = (int)await redis.Database.ScriptEvaluateAsync(Apply,
            [Redis.Routes, Redis.Version, Redis.Changes, Redis.Options], [.. values], CommandFlags.NoScriptCache);
        metrics.Newest = changes[^1].Version;
        if (applied == 0)
            LogRefused(log, at);
        else
            metrics.PublishedAfter(changes.Select(c => c.Age + time.GetElapsedTime(asked).TotalSeconds));
        return true;
    }

    /// <summary>Builds the whole table beside the one in use, and puts it in its place.</summary>
    /// <returns>True, as there may be changes since.</returns>
    private async Task<bool> RebuildAsync(NpgsqlConnection connection, string at, CancellationToken cancel)
    {
        var begun = time.GetTimestamp();
        var attempt = Guid.NewGuid().ToString("N");
        RedisKey fresh = $"{Redis.Routes}:new:{attempt}", freshOptions = $"{Redis.Options}:new:{attempt}";
        long version;
        var (count, options) = (0, 0);
        await using (var transaction = await connection.BeginTransactionAsync(System.Data.IsolationLevel.RepeatableRead, cancel))
        {
            version = await connection.FirstAsync<long>("select version from route_version", null, cancel);
            await foreach (var page in RoutePages.ReadAsync(connection, cancel))
            {
                await WriteAsync(fresh, [.. page.Select(r => new HashEntry(r.Hostname, r.Target))]);
                count += page.Count;
            }
            await foreach (var page in RouteOptions.ReadAsync(connection, cancel))
            {
                await WriteAsync(freshOptions, [.. page.Select(o => new HashEntry(o.Id, o.Json))]);
                options += page.Count;
            }
        }
        var swapped = (int)await redis.Database.ScriptEvaluateAsync(
            Swap, [Redis.Routes, Redis.Version, Redis.Changes, Redis.Options, fresh, freshOptions],
            [Redis.Channel, at, version, count, options], CommandFlags.NoScriptCache);
        if (swapped == 0)
        {
            LogRefused(log, at);
            return true;
        }
        drift.TooMuch = false;
        metrics.Rebuilt();
        await PublishServersAsync();
        LogRebuilt(log, count, version, time.GetElapsedTime(begun).TotalMilliseconds);
        return true;
    }

    /// <summary>A part of a new table, in one step with its end: what a routerd had built when it was killed goes by itself.</summary>
    private Task WriteAsync(RedisKey key, HashEntry[] part)
    {
        var write = redis.Database.CreateTransaction();
        _ = write.HashSetAsync(key, part);
        _ = write.KeyExpireAsync(key, TimeSpan.FromMinutes(10));
        return write.ExecuteAsync();
    }

    private async Task PublishServersAsync()
    {
        var wanted = servers.Known.ToDictionary(s => s.Name, s => s.Upstream);
        var held = (await redis.Database.HashGetAllAsync(Redis.Servers)).ToDictionary(e => e.Name.ToString(), e => e.Value.ToString());
        var changed = wanted.Where(w => held.GetValueOrDefault(w.Key) != w.Value).Select(w => new HashEntry(w.Key, w.Value)).ToArray();
        if (changed.Length > 0)
            await redis.Database.HashSetAsync(Redis.Servers, changed);
        var gone = held.Keys.Except(wanted.Keys).Select(name => (RedisValue)name).ToArray();
        if (gone.Length > 0)
            await redis.Database.HashDeleteAsync(Redis.Servers, gone);
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "This routerd publishes the routes")]
    private static partial void LogLeads(ILogger log);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Routes wait: {Fault}")]
    private static partial void LogRedisAway(ILogger log, string fault);

    [LoggerMessage(Level = LogLevel.Information, Message = "Redis is back")]
    private static partial void LogRedisBack(ILogger log);

    [LoggerMessage(Level = LogLevel.Information,
        Message = "Redis has all {Count} routes of version {Version}, built in {Milliseconds:0} ms")]
    private static partial void LogRebuilt(ILogger log, int count, long version, double milliseconds);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Redis is no longer as it was at version '{Version}': looking again")]
    private static partial void LogRefused(ILogger log, string version);

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "Postgres is at version {Postgres}, Redis at {Redis}: the routes of Postgres are taken")]
    private static partial void LogBehind(ILogger log, long postgres, long redis);
}
