using System.Threading.Channels;

namespace Appoxy.Droidd.Builds;

/// <summary>Lets so many builds run at once; the others wait in the order in which they came.</summary>
internal sealed class BuildQueue(int atOnce)
{
    private readonly Lock gate = new();
    private readonly LinkedList<Place> waiting = [];
    private int running;
    private TaskCompletionSource? emptied;

    /// <summary>How many builds wait for their turn.</summary>
    public int Waiting
    {
        get
        {
            lock (gate)
                return waiting.Count;
        }
    }

    /// <summary>How many builds are under way.</summary>
    public int Running => Volatile.Read(ref running);

    /// <summary>Waits for a place; disposing what is returned gives it to the next.</summary>
    /// <param name="moved">Told how many builds come before this one, at once and whenever that changes; not told where there is room.</param>
    /// <param name="cancel">Leaves the queue.</param>
    public async Task<IDisposable> EnterAsync(Action<int> moved, CancellationToken cancel)
    {
        var place = new Place(this);
        lock (gate)
        {
            if (running < atOnce && emptied is null)
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

    /// <summary>
    /// Waits until no build runs, while none begins; then none does until what is returned is disposed.
    /// </summary>
    /// <param name="patience">How long builds may take to end; zero where those that run must not hold up those that wait.</param>
    /// <param name="cancel">Ends the wait.</param>
    /// <returns>Null where builds still run, or somebody else is alone.</returns>
    public async Task<IDisposable?> EnterAloneAsync(TimeSpan patience, CancellationToken cancel)
    {
        var alone = new Alone(this);
        Task empty;
        lock (gate)
        {
            if (emptied is not null || (running > 0 && patience == TimeSpan.Zero))
                return null;
            emptied = new(TaskCreationOptions.RunContinuationsAsynchronously);
            empty = running == 0 ? Task.CompletedTask : emptied.Task;
        }
        try
        {
            await empty.WaitAsync(patience, cancel);
            return alone;
        }
        catch (TimeoutException)
        {
            alone.Dispose();
            return null;
        }
        catch
        {
            alone.Dispose();
            throw;
        }
    }

    private void Leave(Place place)
    {
        lock (gate)
        {
            if (!waiting.Remove(place))
                running--;
            Admit();
        }
    }

    private void Admit()
    {
        while (running < atOnce && emptied is null && waiting.First is { Value: var next })
        {
            waiting.RemoveFirst();
            running++;
            next.Ahead.Writer.Complete();
        }
        if (running == 0)
            emptied?.TrySetResult();
        var ahead = running;
        foreach (var other in waiting)
            other.Ahead.Writer.TryWrite(ahead++);
    }

    private sealed class Alone(BuildQueue queue) : IDisposable
    {
        private int left;

        public void Dispose()
        {
            if (Interlocked.Exchange(ref left, 1) != 0)
                return;
            lock (queue.gate)
            {
                queue.emptied = null;
                queue.Admit();
            }
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
