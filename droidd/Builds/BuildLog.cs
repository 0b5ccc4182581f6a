using System.Text;

namespace Appoxy.Droidd.Builds;

/// <summary>
/// A deployment's log on disk: <c>build.out</c> has every line, <c>build.err</c> those that tell of a fault. Written through at
/// once, so that followers see each line as it comes and a killed droidd loses none.
/// </summary>
internal sealed class BuildLog(string folder) : IAsyncDisposable
{
    private const long MaxBytes = 16 << 20;
    private readonly SemaphoreSlim gate = new(1, 1);
    private readonly FileStream output = Open(folder, "out");
    private readonly FileStream errors = Open(folder, "err");
    private bool full;

    public static string PathOf(string folder, string stream) => Path.Combine(folder, "build." + stream);

    public Task WriteAsync(string line) => AppendAsync(line, isError: false);

    public Task ErrorAsync(string line) => AppendAsync(line, isError: true);

    private async Task AppendAsync(string text, bool isError)
    {
        var bytes = Encoding.UTF8.GetBytes(Clean(text) + "\n");
        await gate.WaitAsync();
        try
        {
            if (full && !isError)
                return;
            if (output.Length + bytes.Length > MaxBytes && !full)
            {
                full = true;
                await output.WriteAsync("… the log is longer than 16 MiB; the rest is left out\n"u8.ToArray());
            }
            if (!full || isError)
                await output.WriteAsync(bytes);
            await output.FlushAsync();
            if (!isError)
                return;
            await errors.WriteAsync(bytes);
            await errors.FlushAsync();
        }
        finally
        {
            gate.Release();
        }
    }

    /// <summary>Terminal control, which a build may print, stays out of the log, but for tabs and colours.</summary>
    private static string Clean(string text) =>
        string.Concat(text.TrimEnd('\r', '\n').Split('\r')[^1].Where(c => !char.IsControl(c) || c is '\t' or '\u001b'));

    private static FileStream Open(string folder, string stream)
    {
        Directory.CreateDirectory(folder);
        return new FileStream(PathOf(folder, stream), FileMode.Append, FileAccess.Write, FileShare.ReadWrite);
    }

    /// <summary>Copies a log to <paramref name="target"/>; with <paramref name="running"/>, waits for more until it says no.</summary>
    public static async Task CopyAsync(string folder, string stream, Stream target, Func<bool> running, CancellationToken cancel)
    {
        var path = PathOf(folder, stream);
        while (!File.Exists(path))
        {
            if (!running())
                return;
            await Task.Delay(TimeSpan.FromMilliseconds(100), cancel);
        }
        await using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        while (true)
        {
            // Asked before the copy, so that what came just before the end is still copied.
            var more = running();
            await file.CopyToAsync(target, cancel);
            await target.FlushAsync(cancel);
            if (!more)
                return;
            await Task.Delay(TimeSpan.FromMilliseconds(100), cancel);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await output.DisposeAsync();
        await errors.DisposeAsync();
        gate.Dispose();
    }
}
