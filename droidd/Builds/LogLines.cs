using System.Text;

namespace Appoxy.Droidd.Builds;

/// <summary>Cuts what a build prints into the lines of its log; a line without an end is cut too, so that memory is bounded.</summary>
internal sealed class LogLines(Action<string> take)
{
    private const int LongestLine = 16 << 10;
    private readonly StringBuilder line = new();

    public void Add(ReadOnlySpan<char> text)
    {
        foreach (var c in text)
        {
            if (c != '\n')
                line.Append(c);
            if (c == '\n' || line.Length >= LongestLine)
                Finish();
        }
    }

    /// <summary>Takes what is there as a line, unless it is blank.</summary>
    public void Finish()
    {
        var text = line.ToString();
        line.Clear();
        if (!string.IsNullOrWhiteSpace(text))
            take(text);
    }

    /// <summary>Reads a stream of UTF-8 to its end.</summary>
    public async Task ReadAsync(Stream source, CancellationToken cancel)
    {
        using var reader = new StreamReader(source, Encoding.UTF8, false, 4096, leaveOpen: true);
        var buffer = new char[4096];
        while (await reader.ReadAsync(buffer, cancel) is > 0 and var count)
            Add(buffer.AsSpan(0, count));
        Finish();
    }
}
