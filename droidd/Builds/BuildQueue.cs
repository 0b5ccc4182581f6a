using System.Threading.Channels;

namespace Appoxy.Droidd.Builds;

/// <summary>Lets so many builds run at once; the others wait in the order in which they came.</summary>
internal sealed class BuildQueue(int atOnce)
{
    private readonly Lock gate = new();
    private readonly LinkedList<Place> waiting = [];
    private int running;

    /// <summary>Waits for a place; disposing what is returned gives it to the next.</summary>
    /// <param name="moved">Told how many builds come before this one, at once and whenever that changes; not told where there is room.</param>
    /// <param name="cancel">Leaves the queue.</param>
    public async Task<IDisposable> EnterAsync(Action<int> moved, CancellationToken cancel)
    {
        var place = new Place(this);
        lock (gate)
        {
            if (running < atOnce)
            {
                running++;
                return place;
            }
            waiting.AddLast(place);
            place.Ahead.Writer.TryWrite(running + waiting.Count - 1);
        }
        try
        {
            // Told from here and never under the lock, since who is told may hold locks of his own.
            await foreach (var ahead in place.Ahead.Reader.ReadAllAsync(cancel))
                moved(ahead);
            return place;
        }
        catch
        {
            place.Dispose();
            throw;
        }
    }

    private void Leave(Place place)
    {
        lock (gate)
        {
            if (!waiting.Remove(place))
                running--;
            while (running < atOnce && waiting.First is { Value: var next })
            {
                waiting.RemoveFirst();
                running++;
                next.Ahead.Writer.Complete();
            }
            var ahead = running;
            foreach (var other in waiting)
                other.Ahead.Writer.TryWrite(ahead++);
        }
    }

    private sealed class Place(BuildQueue queue) : IDisposable
    {
        private int left;

        /// <summary>How many are before it; completed when its turn comes.</summary>
        public Channel<int> Ahead { get; } = Channel.CreateUnbounded<int>();

        public void Dispose()
        {
            if (Interlocked.Exchange(ref left, 1) == 0)
                queue.Leave(this);
        }
    }
}
