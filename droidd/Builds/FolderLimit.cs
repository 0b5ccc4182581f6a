namespace Appoxy.Droidd.Builds;

/// <summary>Looks at a folder that something fills, and cancels that once the folder is larger than allowed.</summary>
internal sealed class FolderLimit : IAsyncDisposable
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(500);
    private static readonly EnumerationOptions Everything = new()
    {
        RecurseSubdirectories = true, AttributesToSkip = FileAttributes.ReparsePoint, IgnoreInaccessible = true,
    };

    private readonly CancellationTokenSource ended = new();
    private readonly Task watching;
    private readonly string folder;
    private readonly long bytes;

    /// <param name="folder">The folder.</param>
    /// <param name="bytes">How large it may be.</param>
    /// <param name="filling">Cancelled when it is larger.</param>
    public FolderLimit(string folder, long bytes, CancellationTokenSource filling)
    {
        (this.folder, this.bytes) = (folder, bytes);
        watching = WatchAsync(filling);
    }

    /// <summary>Whether the folder has been found larger than allowed, by now.</summary>
    public bool IsExceeded { get; private set; }

    /// <summary>Looks once more: what is small or quick is done between two looks.</summary>
    public bool Look()
    {
        try
        {
            IsExceeded |= new DirectoryInfo(folder).EnumerateFiles("*", Everything).Sum(f => f.Exists ? f.Length : 0) > bytes;
        }
        catch (IOException)
        {
            // git moves its files while they are counted; the next look sees them where they are then.
        }
        return IsExceeded;
    }

    private async Task WatchAsync(CancellationTokenSource filling)
    {
        using var timer = new PeriodicTimer(Interval);
        try
        {
            while (await timer.WaitForNextTickAsync(ended.Token))
            {
                if (Look())
                {
                    await filling.CancelAsync();
                    return;
                }
            }
        }
        catch (OperationCanceledException)
        {
            // It is filled.
        }
    }

    public async ValueTask DisposeAsync()
    {
        await ended.CancelAsync();
        await watching;
        ended.Dispose();
    }
}
