using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using Spectre.Console;

namespace Appoxy.Cli;

/// <summary>What is printed: results on standard output, all else on standard error.</summary>
internal static class Output
{
    private static readonly JsonWriterOptions Pretty = new() { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Columns of the terminal that a table's last column should have.</summary>
    private const int LeastRoom = 24;

    /// <summary>Prepares standard output: UTF-8, each line written at once.</summary>
    public static void Open()
    {
        var stream = new PipeAwareStream();
        Console.SetOut(new StreamWriter(stream, new UTF8Encoding(false)) { AutoFlush = true });
    }

    public static void Line(string text) => Console.Out.WriteLine(text);

    /// <summary>A remark on standard error, always one line.</summary>
    public static void Note(string text) => Console.Error.WriteLine($"appoxy: {OneLine(text)}");

    /// <summary>Text with control characters, which could steer a terminal, taken out.</summary>
    public static string OneLine(string text) =>
        text.Any(char.IsControl) ? string.Create(text.Length, text, (span, from) =>
        {
            for (var i = 0; i < span.Length; i++)
                span[i] = char.IsControl(from[i]) ? ' ' : from[i];
        }).Trim() : text;

    /// <summary>A size for people; null stays null.</summary>
    public static string? Size(long? bytes) => bytes switch
    {
        null => null,
        < 1 << 20 => $"{(bytes + 1023) >> 10} kB",
        < 1 << 30 => $"{bytes / (double)(1 << 20):0.0} MB",
        _ => $"{bytes / (double)(1 << 30):0.0} GB",
    };

    /// <summary>JSON as the API gave it, indented.</summary>
    public static void Json(JsonElement json) => Json(json.WriteTo);

    /// <summary>JSON of our own making.</summary>
    public static void Json(Action<Utf8JsonWriter> write) => Json(write, Pretty);

    /// <summary>JSON on a line of its own, one of many.</summary>
    public static void JsonLine(Action<Utf8JsonWriter> write) => Json(write, Pretty with { Indented = false });

    /// <summary>A table: columns aligned by spaces where a program reads it, coloured where a person does.</summary>
    /// <param name="items">One row each.</param>
    /// <param name="columns">A header in capitals, and what stands below it; nothing prints as a dash.</param>
    public static void Table<T>(IEnumerable<T> items, params (string Header, Func<T, string?> Cell)[] columns)
    {
        var headers = Array.ConvertAll(columns, column => column.Header);
        var cells = items.Select(item => Array.ConvertAll(columns, column => Shown(column.Cell(item)))).ToList();
        if (Console.IsOutputRedirected)
            Line(Plain([headers, .. cells]));
        else
            Coloured(headers, cells);
    }

    /// <summary>Names and values, one pair a line.</summary>
    public static void Pairs(IEnumerable<(string Name, string? Value)> pairs) =>
        Line(Plain(pairs.Select(pair => new[] { pair.Name, Shown(pair.Value) }).ToList()));

    /// <summary>How long ago something was, to the leading unit: <c>5m ago</c>.</summary>
    public static string? Ago(DateTimeOffset? time) => time is { } at ? $"{Span(DateTimeOffset.UtcNow - at)} ago" : null;

    /// <summary>A duration to its leading unit.</summary>
    public static string Span(TimeSpan span) => span switch
    {
        { TotalSeconds: < 120 } => $"{Math.Max(0, (int)span.TotalSeconds)}s",
        { TotalMinutes: < 120 } => $"{(int)span.TotalMinutes}m",
        { TotalHours: < 48 } => $"{(int)span.TotalHours}h",
        _ => $"{(int)span.TotalDays}d",
    };

    private static void Json(Action<Utf8JsonWriter> write, JsonWriterOptions options)
    {
        using var bytes = new MemoryStream();
        using (var writer = new Utf8JsonWriter(bytes, options))
            write(writer);
        Line(Encoding.UTF8.GetString(bytes.GetBuffer(), 0, (int)bytes.Length));
    }

    private static string Shown(string? cell) => cell is { Length: > 0 } ? OneLine(cell) : "-";

    private static int[] Widths(IReadOnlyList<string[]> rows) =>
        rows.Count == 0 ? [] : [.. rows[0].Select((_, column) => rows.Max(row => row[column].Length))];

    private static string Plain(IReadOnlyList<string[]> rows)
    {
        var text = new StringBuilder();
        var widths = Widths(rows);
        foreach (var row in rows)
        {
            for (var column = 0; column < row.Length - 1; column++)
                text.Append(row[column].PadRight(widths[column] + 3));
            text.Append(row[^1]).Append('\n');
        }
        return text.ToString().TrimEnd('\n');
    }

    private static void Coloured(string[] headers, List<string[]> rows)
    {
        // Long texts stand in the last column, which alone takes several lines in a terminal that leaves it some room.
        var others = Widths([headers, .. rows])[..^1].Sum(width => width + 3);
        var roomy = AnsiConsole.Profile.Width - others >= LeastRoom;
        var table = new Table { Border = TableBorder.None };
        foreach (var header in headers)
            table.AddColumn(new TableColumn(new Text(header, new Style(decoration: Decoration.Dim)))
            {
                Padding = new Padding(0, 0, 3, 0),
                NoWrap = roomy && header != headers[^1],
            });
        foreach (var row in rows)
            table.AddRow(row.Select((cell, column) => new Text(cell, StyleOf(headers[column], cell))));
        AnsiConsole.Write(table);
    }

    private static Style StyleOf(string header, string cell) => cell switch
    {
        _ when header is not ("STATE" or "FAULT" or "ERROR") || cell == "-" => Style.Plain,
        "running" or "live" or "up" => new Style(Color.Green),
        "paused" or "snoozed" or "stopped" or "cancelled" => new Style(Color.Grey),
        "queued" or "fetching" or "building" or "releasing" or "starting" or "checking" => new Style(Color.Yellow),
        _ => new Style(Color.Red),
    };

    /// <summary>
    /// Standard output that says when its reader has gone: .NET's own swallows that, and <c>logs -f | head</c> would run for ever.
    /// </summary>
    private sealed class PipeAwareStream : Stream
    {
        private readonly Stream inner = Choose();

        public override bool CanRead => false;
        public override bool CanSeek => false;
        public override bool CanWrite => true;
        public override long Length => throw new NotSupportedException();
        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            try
            {
                inner.Write(buffer);
            }
            catch (IOException e)
            {
                throw new BrokenPipeException(e);
            }
        }

        public override void Flush() => inner.Flush();
        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();
        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
        public override void SetLength(long value) => throw new NotSupportedException();

        /// <summary>A FileStream tells of a broken pipe, but writes to a file at a position of its own, over what others wrote.</summary>
        private static Stream Choose()
        {
            var file = new FileStream(new SafeFileHandle(1, ownsHandle: false), FileAccess.Write, bufferSize: 0);
            return file.CanSeek ? Console.OpenStandardOutput() : file;
        }
    }
}
