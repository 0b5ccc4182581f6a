using System.Runtime.CompilerServices;
using Npgsql;

namespace Appoxy.Routerd.Routes;

/// <summary>A route as the global nginx reads it: hostname → <c>uid server[,server…] flags</c>.</summary>
internal readonly record struct Route(string Hostname, string Target);

/// <summary>All routes of Postgres, a page at a time, so that a million of them need little memory.</summary>
internal static class RoutePages
{
    public const int Size = 1000;

    public static async IAsyncEnumerable<List<Route>> ReadAsync(
        NpgsqlConnection connection, [EnumeratorCancellation] CancellationToken cancel)
    {
        await using var command = new NpgsqlCommand("select hostname, target from routes", connection) { CommandTimeout = 60 };
        await using var reader = await command.ExecuteReaderAsync(cancel);
        var page = new List<Route>(Size);
        while (await reader.ReadAsync(cancel))
        {
            page.Add(new Route(reader.GetString(0), reader.GetString(1)));
            if (page.Count < Size)
                continue;
            yield return page;
            page = new List<Route>(Size);
        }
        if (page.Count > 0)
            yield return page;
    }
}
