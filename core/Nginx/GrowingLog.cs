namespace Appoxy.Nginx;

/// <summary>Takes whole lines of a log, each with its newline, before the next come.</summary>
public delegate ValueTask TakeLines(ReadOnlyMemory<byte> lines);

/// <summary>A log that nginx appends to, as it stood when this was opened, and what comes after, over rotations of the file.</summary>
public sealed class GrowingLog : IAsyncDisposable
{
    /// <summary>A line that is longer is left out.</summary>
    public const int LongestLine = 256 << 10;

    /// <summary>For how long each of nginx's workers keeps lines to itself at most, and may still write to a file that was put aside.</summary>
    public static readonly TimeSpan Lag = TimeSpan.FromSeconds(2);

    private readonly string path;
    private readonly TimeProvider time;

    public GrowingLog(string path, TimeProvider time)
    {
        (this.path, this.time) = (path, time);
        File = Open(path);
        Begin = File?.Length ?? 0;
    }

    /// <summary>The file that is open now; null where there is none.</summary>
    public FileStream? File { get; private set; }

    /// <summary>How long the file was when this was opened.</summary>
    public long Begin { get; }

    /// <summary>Passes on what comes after <see cref="Begin"/>, until cancelled.</summary>
    /// <param name="take">Gets it.</param>
    /// <param name="poll">How often to look for more.</param>
    /// <param name="cancel">Ends it.</param>
    public async Task FollowAsync(TakeLines take, TimeSpan poll, CancellationToken cancel)
    {
        var (buffer, has, at) = (new byte[LongestLine], 0, Begin);
        File?.Seek(Begin, SeekOrigin.Begin);
        DateTimeOffset? aside = null;
        while (true)
        {
            if (File is null && (File = Open(path)) is not null)
                (has, at) = (0, 0);
            // One that was cut short by hand begins anew.
            if (File is not null && File.Length < at)
                (has, at) = (0, File.Seek(0, SeekOrigin.Begin));
            while (File is not null && await File.ReadAsync(buffer.AsMemory(has), cancel) is > 0 and var read)
            {
                (at, has) = (at + read, has + read);
                var whole = buffer.AsSpan(0, has).LastIndexOf((byte)'\n') + 1;
                if (whole > 0)
                    await take(buffer.AsMemory(0, whole));
                buffer.AsSpan(whole, has - whole).CopyTo(buffer);
                has = has - whole == buffer.Length ? 0 : has - whole;
            }
            if (File is not null && IsAside(File))
            {
                aside ??= time.GetUtcNow();
                if (time.GetUtcNow() - aside > Lag)
                {
                    await File.DisposeAsync();
                    (File, aside) = (null, null);
                    continue;
                }
            }
            await Task.Delay(poll, time, cancel);
        }
    }

    /// <summary>Opens a log to be read while nginx writes to it; null if it is not there.</summary>
    public static FileStream? Open(string path)
    {
        try
        {
            return new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
        }
        catch (IOException)
        {
            return null;
        }
    }

    /// <summary>Whether the open file has another name now.</summary>
    private bool IsAside(FileStream open) => new FileInfo($"/proc/self/fd/{open.SafeFileHandle.DangerousGetHandle()}").LinkTarget != path;

    public ValueTask DisposeAsync() => File?.DisposeAsync() ?? ValueTask.CompletedTask;
}
