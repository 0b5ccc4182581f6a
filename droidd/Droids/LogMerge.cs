using System.Runtime.CompilerServices;

namespace Appoxy.Droidd.Droids;

/// <summary>Merges logs whose lines begin with their time.</summary>
internal static class LogMerge
{
    /// <summary>All lines of sources that are each in order, in order; it holds one line of each.</summary>
    public static async IAsyncEnumerable<string> ByTimeAsync(
        IReadOnlyList<IAsyncEnumerable<string>> sources, [EnumeratorCancellation] CancellationToken cancel)
    {
        var open = new List<IAsyncEnumerator<string>>();
        try
        {
            foreach (var source in sources.Select(s => s.GetAsyncEnumerator(cancel)))
            {
                open.Add(source);
                if (!await source.MoveNextAsync())
                    await CloseAsync(open, source);
            }
            while (open.MinBy(s => s.Current, StringComparer.Ordinal) is { } next)
            {
                yield return next.Current;
                if (!await next.MoveNextAsync())
                    await CloseAsync(open, next);
            }
        }
        finally
        {
            foreach (var left in open)
                await left.DisposeAsync();
        }
    }

    /// <summary>
    /// A source that is nearly in order, in order: several writers put their lines into it in blocks, so that one may stand behind others
    /// that are younger by <paramref name="window"/> at most. It holds the lines of such a time.
    /// </summary>
    public static async IAsyncEnumerable<string> SettleAsync(
        IAsyncEnumerable<string> source, TimeSpan window, [EnumeratorCancellation] CancellationToken cancel)
    {
        var held = new PriorityQueue<string, string>(StringComparer.Ordinal);
        var newest = "";
        await foreach (var line in source.WithCancellation(cancel))
        {
            held.Enqueue(line, line);
            if (string.CompareOrdinal(line, newest) <= 0)
                continue;
            newest = line;
            var settled = DroidLogs.StampOf(DroidLogs.MomentOf(line) - window);
            while (held.TryPeek(out var oldest, out _) && string.CompareOrdinal(oldest, settled) < 0)
                yield return held.Dequeue();
        }
        while (held.TryDequeue(out var line, out _))
            yield return line;
    }

    private static async Task CloseAsync(List<IAsyncEnumerator<string>> open, IAsyncEnumerator<string> ended)
    {
        open.Remove(ended);
        await ended.DisposeAsync();
    }
}
