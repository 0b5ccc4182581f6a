namespace Appoxy.Routerd.Placements;

/// <summary>A body that passes through, with a word now and then of how much that was.</summary>
internal sealed class CountedStream(Stream source, Func<long, Task> tell, TimeProvider time) : OneWayStream
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);
    private long told = time.GetTimestamp();

    public long Count { get; private set; }

    public static async Task<CountedStream> OpenAsync(HttpResponseMessage response, Func<long, Task> tell, TimeProvider time, CancellationToken cancel) =>
        new(await response.Content.ReadAsStreamAsync(cancel), tell, time);

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        var read = await source.ReadAsync(buffer, cancellationToken);
        Count += read;
        if (time.GetElapsedTime(told) > Pause)
        {
            told = time.GetTimestamp();
            await tell(Count);
        }
        return read;
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override bool CanRead => true;

    protected override void Dispose(bool disposing)
    {
        if (disposing)
            source.Dispose();
        base.Dispose(disposing);
    }
}
