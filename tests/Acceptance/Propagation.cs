using System.Collections.Concurrent;
using System.Diagnostics;
using Npgsql;

namespace Appoxy.Tests;

/// <summary>What a run of changes came to.</summary>
/// <param name="Rate">Changes a second that were really made.</param>
/// <param name="Published">Milliseconds from sending COMMIT until Redis told of each change.</param>
/// <param name="Served">Milliseconds from sending COMMIT until the last worker answered from the new server, for each change.</param>
/// <param name="Unseen">Changes that a worker had not answered by when the same host was changed again.</param>
/// <param name="Wrong">Answers from the old server by a worker that had answered from the new one before.</param>
/// <param name="Asked">How many answers were looked at.</param>
/// <param name="Before">The workers' process ids before.</param>
/// <param name="After">The same after: others, if nginx was reloaded.</param>
public sealed record Propagated(
    double Rate, double[] Published, double[] Served, int Unseen, string[] Wrong, int Asked, int[] Before, int[] After)
{
    public static double Percentile(double[] sorted, double part) =>
        sorted.Length == 0 ? double.NaN : sorted[Math.Min(sorted.Length - 1, (int)(part * sorted.Length))];

    public override string ToString() =>
        $"{Served.Length} changes at {Rate:0.0}/s: served by every worker after p50 {Percentile(Served, 0.5):0.0}, p99 {Percentile(Served, 0.99):0.0}, "
        + $"max {Percentile(Served, 1):0.0} ms; told by Redis after p50 {Percentile(Published, 0.5):0.0}, p99 {Percentile(Published, 0.99):0.0} ms; "
        + $"{Unseen} unseen, {Wrong.Length} wrong of {Asked} answers, workers {string.Join(',', Before)} then {string.Join(',', After)}";
}

/// <summary>
/// Moves apps between two servers, at an even rate, and asks each worker of the global nginx by connections of its own until it
/// answers from the new server, and again and again after.
/// </summary>
public sealed class Propagation(EchoServers servers, int hosts = 50) : IAsyncDisposable
{
    private const string Prefix = "moved-";
    private const int LinesPerWorker = 8;
    private readonly Host[] moved = [.. Enumerable.Range(0, hosts).Select(n => new Host($"{Prefix}{n}.test", EchoServers.Uid($"{Prefix}{n}")))];
    private readonly ConcurrentQueue<string> wrong = new();
    private int[] workers = [];
    private Dictionary<int, HttpLine[]> lines = [];
    private int asked;

    /// <summary>Makes the apps, and a set of connections for each worker.</summary>
    public async Task PrepareAsync()
    {
        await servers.CreateAsync(EchoServers.Names[0], [.. Enumerable.Range(0, hosts).Select(n => $"{Prefix}{n}")]);
        await servers.PublishedAsync(TimeSpan.FromSeconds(20));
        workers = servers.Workers();
        if (workers.Length < 2)
            throw new InvalidOperationException($"nginx has {workers.Length} workers; give it two or more");
        lines = Connect();
        foreach (var line in lines.Values.SelectMany(l => l))
        {
            foreach (var host in moved)
            {
                if (line.Ask(host.Name) is var answer && answer != (200, host.Target))
                    throw new InvalidOperationException($"{host.Name} answers {answer}");
            }
        }
    }

    public async Task<Propagated> RunAsync(int changes, double rate)
    {
        wrong.Clear();
        asked = 0;
        foreach (var host in moved)
            host.Change = null;
        using var stop = new CancellationTokenSource();
        var made = new List<Change>();
        var subscription = await servers.Redis.Multiplexer.GetSubscriber().SubscribeAsync(StackExchange.Redis.RedisChannel.Literal("appoxy:routes"));
        subscription.OnMessage(m =>
        {
            // The newest change of the host: the one before was told before.
            if (m.Message.ToString().Split(' ') is [_, var name] && moved.FirstOrDefault(h => h.Name == name)?.Change is { } change)
                Interlocked.CompareExchange(ref change.Told, Stopwatch.GetTimestamp(), 0);
        });
        var pollers = workers.Select((pid, n) => Task.Factory.StartNew(() => Poll(n, lines[pid], stop.Token), TaskCreationOptions.LongRunning)).ToArray();
        var begun = Stopwatch.GetTimestamp();
        await using (var connection = await servers.Database.OpenConnectionAsync())
        {
            for (var n = 0; n < changes; n++)
            {
                var due = TimeSpan.FromSeconds(n / rate) - Stopwatch.GetElapsedTime(begun);
                if (due > TimeSpan.Zero)
                    await Task.Delay(due);
                made.Add(await MoveAsync(connection, moved[n % hosts]));
            }
        }
        var took = Stopwatch.GetElapsedTime(begun);
        await Task.Delay(TimeSpan.FromSeconds(1));
        await stop.CancelAsync();
        await Task.WhenAll(pollers);
        await subscription.UnsubscribeAsync();
        return new Propagated((changes - 1) / took.TotalSeconds,
            [.. made.Where(c => c.Told > 0).Select(c => Stopwatch.GetElapsedTime(c.Committed, c.Told).TotalMilliseconds).Order()],
            [.. made.Where(c => c.Seen.All(s => s > 0)).Select(c => Stopwatch.GetElapsedTime(c.Committed, c.Seen.Max()).TotalMilliseconds).Order()],
            made.Count(c => c.Seen.Any(s => s == 0)), [.. wrong], asked, workers, servers.Workers());
    }

    private async Task<Change> MoveAsync(NpgsqlConnection connection, Host host)
    {
        var target = EchoServers.Names.First(n => n != host.Target);
        await using var transaction = await connection.BeginTransactionAsync();
        await using var update = new NpgsqlCommand("update placements set server = $1 where app_uid = $2", connection, transaction);
        update.Parameters.Add(new NpgsqlParameter { Value = target });
        update.Parameters.Add(new NpgsqlParameter { Value = host.Uid });
        if (await update.ExecuteNonQueryAsync() != 1)
            throw new InvalidOperationException($"{host.Uid} is gone");
        var change = new Change(target, new long[workers.Length], Stopwatch.GetTimestamp());
        host.Change = change;
        await transaction.CommitAsync();
        host.Target = target;
        return change;
    }

    /// <summary>One worker is asked for what it has not answered anew yet, at each turn, and for one host that it has.</summary>
    private void Poll(int worker, HttpLine[] mine, CancellationToken stop)
    {
        var turn = 0;
        while (!stop.IsCancellationRequested)
        {
            Host[] pending = [.. moved.Where(h => h.Change is { } c && c.Seen[worker] == 0)];
            foreach (var host in pending)
                Ask(host);
            Ask(moved[turn % hosts]);
            Thread.Sleep(1);
        }

        void Ask(Host host)
        {
            // Each connection in turn: none becomes idle, nor reaches the number of requests at which nginx closes it.
            var change = host.Change;
            var (status, body) = mine[turn++ % mine.Length].Ask(host.Name);
            Interlocked.Increment(ref asked);
            if (status != 200)
                wrong.Enqueue($"{host.Name}: {status}");
            // A change that began meanwhile allows either answer.
            if (change is null || host.Change != change)
                return;
            if (body == change.Target)
            {
                if (change.Seen[worker] == 0)
                    change.Seen[worker] = Stopwatch.GetTimestamp();
            }
            else if (change.Seen[worker] > 0)
            {
                wrong.Enqueue($"{host.Name}: {body} by worker {worker}, {Stopwatch.GetElapsedTime(change.Seen[worker]).TotalMilliseconds:0.0} ms after {change.Target}");
            }
        }
    }

    /// <summary>nginx's workers take connections as they like: many are made, and some kept for each.</summary>
    private Dictionary<int, HttpLine[]> Connect()
    {
        var found = workers.ToDictionary(w => w, _ => new List<HttpLine>());
        for (var round = 0; round < 100 && found.Values.Any(l => l.Count < LinesPerWorker); round++)
        {
            var fresh = Enumerable.Range(0, 16).Select(_ => new HttpLine(servers.Install.HttpPort)).ToArray();
            Parallel.ForEach(fresh, line => line.Ask(moved[0].Name));
            foreach (var line in fresh)
            {
                var worker = line.WorkerAmong(workers);
                if (worker != 0 && found[worker].Count < LinesPerWorker)
                    found[worker].Add(line);
                else
                    line.Dispose();
            }
        }
        return found.ToDictionary(f => f.Key, f => f.Value.Count == LinesPerWorker
            ? f.Value.ToArray()
            : throw new InvalidOperationException($"worker {f.Key} took only {f.Value.Count} connections"));
    }

    public ValueTask DisposeAsync()
    {
        foreach (var line in lines.Values.SelectMany(l => l))
            line.Dispose();
        return ValueTask.CompletedTask;
    }

    private sealed class Host(string name, string uid)
    {
        public string Name => name;
        public string Uid => uid;
        public string Target { get; set; } = EchoServers.Names[0];
        public volatile Change? Change;
    }

    /// <param name="Target">The server that answers from now on.</param>
    /// <param name="Seen">By worker: when it first answered so; 0 before.</param>
    /// <param name="Committed">When COMMIT was about to be sent.</param>
    private sealed record Change(string Target, long[] Seen, long Committed)
    {
        public long Told;
    }
}
