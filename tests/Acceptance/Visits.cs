using System.Diagnostics;

namespace Appoxy.Tests;

/// <summary>How long visits took, in milliseconds, and what failed.</summary>
public sealed record Visited(int Count, double P50, double P99, double Max, string[] Failures)
{
    public override string ToString() => $"{Count} visits, p50 {P50:0.00}, p99 {P99:0.00}, max {Max:0.0} ms, {Failures.Length} failed";
}

/// <summary>
/// Visitors of known hosts, at an even pace, each on a thread of its own: some on one kept connection, some with a new connection for
/// each request. They go on until disposed; what happened between two moments is told at any time.
/// </summary>
public sealed class Visits : IDisposable
{
    private readonly CancellationTokenSource stop = new();
    private readonly List<(long At, double Milliseconds, string? Fault)> log = [];
    private readonly Thread[] visitors;

    /// <param name="port">Of the global nginx.</param>
    /// <param name="hosts">Visited in turn.</param>
    /// <param name="answer">What each of them answers.</param>
    /// <param name="kept">Visitors on a kept connection.</param>
    /// <param name="fresh">Visitors with a new connection for each request.</param>
    /// <param name="pause">Milliseconds between two requests of a visitor.</param>
    public Visits(int port, string[] hosts, string answer, int kept = 2, int fresh = 2, int pause = 4)
    {
        visitors = [.. Enumerable.Range(0, kept + fresh).Select(n => new Thread(() => Visit(port, hosts, answer, n >= kept, pause, n)))];
        foreach (var visitor in visitors)
            visitor.Start();
    }

    /// <summary>Those that began since a moment.</summary>
    public Visited Since(long from, long to = long.MaxValue)
    {
        lock (log)
        {
            var some = log.Where(l => l.At >= from && l.At <= to).ToArray();
            double[] times = [.. some.Select(s => s.Milliseconds).Order()];
            return new Visited(times.Length, Propagated.Percentile(times, 0.5), Propagated.Percentile(times, 0.99), Propagated.Percentile(times, 1),
                [.. some.Where(s => s.Fault is not null).Select(s => s.Fault!)]);
        }
    }

    /// <summary>Waits, then tells what happened meanwhile.</summary>
    public async Task<Visited> DuringAsync(TimeSpan time)
    {
        var from = Stopwatch.GetTimestamp();
        await Task.Delay(time);
        return Since(from);
    }

    private void Visit(int port, string[] hosts, string answer, bool fresh, int pause, int turn)
    {
        HttpLine? line = null;
        for (; !stop.IsCancellationRequested; turn++)
        {
            string? fault = null;
            var host = hosts[turn % hosts.Length];
            var at = Stopwatch.GetTimestamp();
            try
            {
                line ??= new HttpLine(port);
                if (line.Ask(host, close: fresh) is var got && got != (200, answer))
                    fault = $"{DateTimeOffset.UtcNow:HH:mm:ss.fff} {host}: {got.Status} {got.Body[..Math.Min(20, got.Body.Length)]}";
            }
            catch (Exception e) when (e is IOException or System.Net.Sockets.SocketException)
            {
                fault = $"{DateTimeOffset.UtcNow:HH:mm:ss.fff} {host}: {e.Message}";
            }
            var took = Stopwatch.GetElapsedTime(at).TotalMilliseconds;
            lock (log)
                log.Add((at, took, fault));
            if (fault is not null || line!.Closed)
            {
                line?.Dispose();
                line = null;
            }
            Thread.Sleep(pause);
        }
        line?.Dispose();
    }

    public void Dispose()
    {
        stop.Cancel();
        foreach (var visitor in visitors)
            visitor.Join();
        stop.Dispose();
    }
}
