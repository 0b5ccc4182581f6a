using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Servers;

/// <summary>Asks each droid-server how it is, and notes that and when it answered.</summary>
internal sealed class Probes(NpgsqlDataSource db, DroidServers servers, ServerMetrics metrics, TimeProvider time, ILogger<Probes> log)
    : Rounds(TimeSpan.FromSeconds(2), log)
{
    private readonly Dictionary<string, (long First, long? Last)> asked = [];

    /// <summary>For how long this routerd itself has asked a server without an answer.</summary>
    public TimeSpan SilenceOf(string server)
    {
        lock (asked)
            return asked.TryGetValue(server, out var one) ? time.GetElapsedTime(one.Last ?? one.First) : TimeSpan.Zero;
    }

    protected override async Task RoundAsync(CancellationToken cancel)
    {
        var all = await Task.WhenAll(servers.Known.Select(async s => (s.Name, Status: await AskAsync(s.Name, cancel))));
        lock (asked)
        {
            foreach (var (name, status) in all)
            {
                var now = time.GetTimestamp();
                var before = asked.GetValueOrDefault(name, (First: now, Last: null));
                asked[name] = (before.First, status is null ? before.Last : now);
            }
        }
        metrics.Tell(all.ToDictionary(a => a.Name, a => SilenceOf(a.Name)));
        var answers = all.Where(a => a.Status is not null).ToArray();
        if (answers.Length == 0)
            return;
        await db.RunAsync("""
            update servers s set seen_at = now(), down_since = null, memory_bytes = a.memory
            from unnest(@names, @memory) as a (name, memory) where s.name = a.name
            """, new { names = answers.Select(a => a.Name).ToArray(), memory = answers.Select(a => a.Status!.MemoryBytes).ToArray() }, cancel);
    }

    private async Task<ServerStatus?> AskAsync(string server, CancellationToken cancel)
    {
        try
        {
            return await servers[server].StatusAsync(cancel);
        }
        catch (Problem)
        {
            return null;
        }
    }
}
