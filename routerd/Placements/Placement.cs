using System.Buffers;

namespace Appoxy.Routerd.Placements;

/// <summary>What an app needs of a server.</summary>
/// <param name="Owner">Whose app it is, a user's or a team's; see <see cref="Fleet.Owner"/>.</param>
/// <param name="MemoryBytes">Its memory limit times its processes.</param>
/// <param name="Constraints">What it asks of the server.</param>
internal sealed record AppNeeds(long Owner, long MemoryBytes, IReadOnlyList<Constraint> Constraints);

/// <summary>A droid-server and what is placed on it.</summary>
/// <param name="name">Its name.</param>
/// <param name="memoryBytes">What it has; 0 while it was never heard of.</param>
internal sealed class ServerLoad(string name, long memoryBytes)
{
    private readonly Dictionary<long, int> owners = [];

    public string Name => name;

    public long MemoryBytes => memoryBytes;

    public bool Up { get; init; } = true;

    public bool Draining { get; init; }

    public IReadOnlyDictionary<string, string> Labels { get; init; } = new Dictionary<string, string>();

    /// <summary>The memory that the apps placed here may use together.</summary>
    public long Reserved { get; private set; }

    public int Apps { get; private set; }

    /// <summary>How many apps of one owner are placed here.</summary>
    public int AppsOf(long owner) => owners.GetValueOrDefault(owner);

    public void Add(long owner, long reserved, int apps = 1)
    {
        (Reserved, Apps) = (Reserved + reserved, Apps + apps);
        owners[owner] = AppsOf(owner) + apps;
    }

    public void Remove(long owner, long reserved)
    {
        (Reserved, Apps) = (Reserved - reserved, Apps - 1);
        owners[owner] = AppsOf(owner) - 1;
    }

    public bool Meets(Constraint c) => (c.Key == Appoxy.Labels.Server ? name : Labels.GetValueOrDefault(c.Key)) == c.Value != c.Not;
}

/// <summary>Which droid-server an app goes to; docs/placement.md tells the rule.</summary>
internal static class Placement
{
    /// <summary>Servers whose free shares differ by less than this are alike: then the spread of an owner's apps decides.</summary>
    public const double Alike = 0.05;

    /// <summary>The server for an app, or null where <see cref="WhyNot"/> says why there is none.</summary>
    /// <param name="app">What it needs.</param>
    /// <param name="servers">All servers, in the order of their names.</param>
    /// <param name="overcommit">How often a server's memory may be promised, since idle apps sleep; 0 for no limit.</param>
    public static ServerLoad? Choose(AppNeeds app, IReadOnlyList<ServerLoad> servers, double overcommit)
    {
        var most = double.NegativeInfinity;
        var shares = ArrayPool<double>.Shared.Rent(servers.Count);
        for (var i = 0; i < servers.Count; i++)
        {
            shares[i] = Fits(app, servers[i], overcommit) ? FreeShare(servers[i], app.MemoryBytes, overcommit) : double.NegativeInfinity;
            most = Math.Max(most, shares[i]);
        }
        ServerLoad? best = null;
        var (bestFree, bestSpread) = (0.0, 0);
        for (var i = 0; i < servers.Count && most > double.NegativeInfinity; i++)
        {
            if (shares[i] is var free && free < most - Alike)
                continue;
            var spread = servers[i].AppsOf(app.Owner);
            if (best is null || spread < bestSpread || (spread == bestSpread && free > bestFree))
                (best, bestFree, bestSpread) = (servers[i], free, spread);
        }
        ArrayPool<double>.Shared.Return(shares);
        return best;
    }

    public static bool Fits(AppNeeds app, ServerLoad server, double overcommit) =>
        server.Up && !server.Draining && HasRoom(app, server, overcommit) && (app.Constraints.Count == 0 || app.Constraints.All(server.Meets));

    /// <summary>The share of what may be promised of a server's memory that is left with so much more on it.</summary>
    public static double FreeShare(ServerLoad server, long more, double overcommit) => server.MemoryBytes == 0 ? 0
        : 1 - ((server.Reserved + more) / (server.MemoryBytes * (overcommit > 0 ? overcommit : 1)));

    private static bool HasRoom(AppNeeds app, ServerLoad server, double overcommit) =>
        overcommit == 0 || server.MemoryBytes == 0 || server.Reserved + app.MemoryBytes <= server.MemoryBytes * overcommit;

    /// <summary>Why no server takes an app, in words for its owner.</summary>
    public static string WhyNot(AppNeeds app, IReadOnlyList<ServerLoad> servers, double overcommit)
    {
        if (servers.Count == 0)
            return "there is no droid-server yet";
        var why = servers.GroupBy(s => s switch
        {
            { Up: false } => "down",
            { Draining: true } => "draining",
            _ when app.Constraints.FirstOrDefault(c => !s.Meets(c)) is { } unmet => $"not {unmet}",
            _ when !HasRoom(app, s, overcommit) => $"without room for {Quantities.FormatBytes(app.MemoryBytes)}",
            _ => "taken",
        }).Select(g => $"{string.Join(", ", g.Take(3).Select(s => s.Name))}{(g.Count() > 3 ? $" and {g.Count() - 3} more" : "")} "
            + $"{(g.Count() == 1 ? "is" : "are")} {g.Key}");
        return "no droid-server takes it: " + string.Join("; ", why);
    }
}
