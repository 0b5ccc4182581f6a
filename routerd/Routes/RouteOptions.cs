using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Text;
using Appoxy.Routerd.Database;
using Npgsql;
using StackExchange.Redis;

namespace Appoxy.Routerd.Routes;

/// <summary>What requests for some route are subject to, as JSON for the global nginx, under the id that the route names.</summary>
internal readonly record struct RouteOptions(string Id, string Json)
{
    /// <summary>How many are repaired at once.</summary>
    public const int Most = 100;

    // Of up to 100 kB each.
    private const int PageSize = 100;

    /// <summary>All options of Postgres, each once, a page at a time.</summary>
    public static async IAsyncEnumerable<List<RouteOptions>> ReadAsync(
        NpgsqlConnection connection, [EnumeratorCancellation] CancellationToken cancel)
    {
        await using var command = new NpgsqlCommand(
            "select distinct on (1) routing_id(routing), routing::text from apps where routing <> '{}' order by 1", connection)
            { CommandTimeout = 60 };
        await using var reader = await command.ExecuteReaderAsync(cancel);
        var page = new List<RouteOptions>(PageSize);
        while (await reader.ReadAsync(cancel))
        {
            page.Add(new RouteOptions(reader.GetString(0), reader.GetString(1)));
            if (page.Count < PageSize)
                continue;
            yield return page;
            page = new List<RouteOptions>(PageSize);
        }
        if (page.Count > 0)
            yield return page;
    }

    /// <summary>
    /// Brings Redis to hold the options that Postgres has, and no others. What is to go goes only while both are at one version;
    /// if they never are in a few looks, a later call removes it.
    /// </summary>
    /// <returns>How many were missing or not as they should be; from <see cref="Most"/> on there may be more.</returns>
    public static async Task<int> RepairAsync(NpgsqlDataSource db, Redis redis, CancellationToken cancel)
    {
        const int Looks = 5;
        for (var look = 0; look < Looks; look++)
        {
            var (version, missing, unused) = await CompareAsync(db, redis, cancel);
            if (missing.Count == 0 && unused.Count == 0)
                return 0;
            var values = new List<RedisValue> { version, missing.Count };
            values.AddRange(missing.SelectMany(o => new RedisValue[] { o.Id, o.Json }));
            values.AddRange(unused.Select(id => (RedisValue)id));
            var added = (int)await redis.Database.ScriptEvaluateAsync(Sweep, [Redis.Version, Redis.Options], [.. values],
                CommandFlags.NoScriptCache);
            if (added >= 0)
                return added;
        }
        return 0;
    }

    private static readonly string Sweep = Redis.Script("sweep.lua");

    private static async Task<(long Version, List<RouteOptions> Missing, List<string> Unused)> CompareAsync(
        NpgsqlDataSource db, Redis redis, CancellationToken cancel)
    {
        var (unused, right) = (new HashSet<string>(), new HashSet<string>());
        await foreach (var entry in redis.Database.HashScanAsync(Redis.Options, pageSize: PageSize).WithCancellation(cancel))
        {
            unused.Add(entry.Name.ToString());
            if (IsTrue(entry))
                right.Add(entry.Name.ToString());
        }
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(System.Data.IsolationLevel.RepeatableRead, cancel);
        var version = await connection.FirstAsync<long>("select version from route_version", null, cancel);
        var missing = new List<RouteOptions>();
        await foreach (var page in ReadAsync(connection, cancel))
        {
            unused.ExceptWith(page.Select(o => o.Id));
            missing.AddRange(page.Where(o => !right.Contains(o.Id)).Take(Most - missing.Count));
        }
        return (version, missing, [.. unused.Take(10 * Most)]);
    }

    /// <summary>An id is made of what it names, which tells whether that is what it was.</summary>
    private static bool IsTrue(HashEntry entry) =>
        entry.Name == Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(entry.Value.ToString())))[..32];
}
