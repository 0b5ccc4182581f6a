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

    private static async Task CloseAsync(List<IAsyncEnumerator<string>> open, IAsyncEnumerator<string> ended)
    {
        open.Remove(ended);
        await ended.DisposeAsync();
    }
}
