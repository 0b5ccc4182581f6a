using Appoxy.Droidd.Droids;

namespace Appoxy.Tests.Unit;

public sealed class LogMergeTests
{
    private static readonly DateTimeOffset Start = new(2026, 11, 25, 12, 0, 0, TimeSpan.Zero);

    [Fact]
    public async Task Lines_of_writers_that_write_in_blocks_come_in_order_of_their_time()
    {
        // Three workers of nginx, each of which keeps a second's lines to itself; their blocks stand one behind the other.
        var blocks = Enumerable.Range(0, 60).SelectMany(second => Enumerable.Range(0, 3).SelectMany(worker =>
            Enumerable.Range(0, 10).Select(n => Line(Start.AddSeconds(second).AddMilliseconds((100 * n) + (7 * worker)))))).ToList();
        Assert.NotEqual(blocks.Order(StringComparer.Ordinal), blocks);
        var settled = new List<string>();
        var taken = 0;
        var mostHeld = 0;
        await foreach (var line in LogMerge.SettleAsync(Take(), TimeSpan.FromSeconds(2), CancellationToken.None))
        {
            settled.Add(line);
            mostHeld = Math.Max(mostHeld, taken - settled.Count);
        }
        Assert.Equal(blocks.Order(StringComparer.Ordinal), settled);
        Assert.InRange(mostHeld, 1, 120);

        async IAsyncEnumerable<string> Take()
        {
            foreach (var line in blocks)
            {
                taken++;
                yield return await Task.FromResult(line);
            }
        }
    }

    private static string Line(DateTimeOffset at) => DroidLogs.StampOf(at) + " router: at=info";
}
