using System.Diagnostics.Metrics;
using System.Net.Sockets;
using Appoxy.Daemon;
using Npgsql;
using StackExchange.Redis;

namespace Appoxy.Routerd;

/// <summary>Tells a part that is away for now (Postgres, Redis, a droid-server, the disk) from a fault in routerd itself.</summary>
internal static class Outage
{
    private static readonly Counter<long> outages = new Meter(Telemetry.Meters + "Outages").CreateCounter<long>("appoxy.outages", null,
        "What failed since a part was away: part is postgres, redis or droidd.");

    static Outage()
    {
        foreach (var part in new[] { "postgres", "redis", "droidd" })
            outages.Add(0, new KeyValuePair<string, object?>("part", part));
    }

    /// <summary>Counts a failure where a part is to blame for it.</summary>
    public static void Count(Exception e)
    {
        if ((IsPostgres(e) ? "postgres" : IsRedis(e) ? "redis" : e is Problem { Status: 502 or 503 } ? "droidd" : null) is { } part)
            outages.Add(1, new KeyValuePair<string, object?>("part", part));
    }

    /// <summary>Whether trying again later can help.</summary>
    public static bool Is(Exception e) => IsPostgres(e) || IsRedis(e)
        || e is Problem { Status: 502 or 503 } or HttpRequestException or IOException or SocketException or TimeoutException;

    /// <summary>What is said of it in a log, the same for the same outage: StackExchange.Redis adds counters to its messages.</summary>
    public static string Words(Exception e) => IsRedis(e) ? "Redis: " + e.Message.Split([';', '(', ','])[0] : e.Message;

    /// <summary>Whether Postgres is away, starting, stopping, out of connections, or without its schema yet.</summary>
    public static bool IsPostgres(Exception e) => e switch
    {
        PostgresException p => p.IsTransient || p.SqlState[..2] is "08" or "28" or "3D" or "40" or "53" or "57"
            || p.SqlState == PostgresErrorCodes.UndefinedTable,
        NpgsqlException => true,
        _ => false,
    };

    public static bool IsRedis(Exception e) => e is RedisException or RedisTimeoutException;
}
