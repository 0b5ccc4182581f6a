using System.Text;

namespace Appoxy.Cli;

/// <summary>Reads a log line by line as it arrives. Lines are cut at 1 MiB.</summary>
internal sealed class LogReader(Stream stream)
{
    private const int LongestLine = 1 << 20;

    private byte[] buffer = new byte[16 << 10];
    private int start;
    private int scanned;
    private int end;
    private bool ended;
    private Task<int>? pending;

    /// <summary>The next line without its line end; null at the log's end, where a last line needs no line end.</summary>
    /// <exception cref="TimeoutException">None came within <paramref name="patience"/>; the next call goes on waiting for it.</exception>
    /// <exception cref="IOException">The log broke off; half a line is dropped.</exception>
    public async Task<string?> NextAsync(TimeSpan patience, CancellationToken cancel)
    {
        while (true)
        {
            var newline = buffer.AsSpan(scanned, end - scanned).IndexOf((byte)'\n');
            if (newline >= 0)
                return Take(scanned + newline, skip: 1);
            scanned = end;
            if (end - start >= LongestLine || (ended && end > start))
                return Take(end, skip: 0);
            if (ended)
                return null;
            if (pending is null)
            {
                MakeRoom();
                pending = stream.ReadAsync(buffer.AsMemory(end), cancel).AsTask();
            }
            var count = await pending.WaitAsync(patience, cancel);
            pending = null;
            end += count;
            ended = count == 0;
        }
    }

    private string Take(int until, int skip)
    {
        var line = Encoding.UTF8.GetString(buffer, start, until - start).TrimEnd('\r');
        start = scanned = until + skip;
        return line;
    }

    private void MakeRoom()
    {
        if (end < buffer.Length)
            return;
        if (start == 0)
            Array.Resize(ref buffer, buffer.Length * 2);
        else
            buffer.AsSpan(start, end - start).CopyTo(buffer);
        (scanned, end, start) = (scanned - start, end - start, 0);
    }
}
