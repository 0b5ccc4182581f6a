using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using System.Threading.Channels;

namespace Appoxy.Droidd.Droids;

/// <summary>
/// The requests that the local nginx passed to droids, out of its access log: one JSON object a line. nginx only appends to it, as it
/// would anyway; who wants to see an app's lines reads the file.
/// </summary>
internal sealed class AccessLog(DroiddSettings settings, TimeProvider time)
{
    /// <summary>How far back it is looked for requests, in bytes of all apps' lines.</summary>
    private const long MostRead = 64 << 20;
    private const int LongestLine = 256 << 10;
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(250);

    /// <summary>For how long each of nginx's workers keeps lines to itself at most, and may still write to a file that was put aside.</summary>
    public static readonly TimeSpan Lag = TimeSpan.FromSeconds(2);

    private string Path => System.IO.Path.Combine(settings.Nginx.LogDir, "local-access.log");

    /// <summary>One app's requests, seen from now on: those before are the past, those after can be followed.</summary>
    public View Open(string uid) => new(Path, uid, time);

    /// <summary>One line of nginx's as Heroku's router writes it; null if it is none.</summary>
    internal static string? Form(string line)
    {
        try
        {
            using var json = JsonDocument.Parse(line);
            var root = json.RootElement;
            string Text(string name) => root.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString()! : "";
            decimal Number(string name) => root.TryGetProperty(name, out var value) && value.TryGetDecimal(out var number) ? number : 0;
            // A log format of an admin's own may have no milliseconds.
            var at = Number("msec") is > 0 and var seconds ? DateTimeOffset.FromUnixTimeMilliseconds((long)(seconds * 1000))
                : DateTimeOffset.Parse(Text("time"), CultureInfo.InvariantCulture);
            var status = (int)Number("status");
            // What the app itself answers is no fault of the router's, whatever it is.
            var own = status is 502 or 503 or 504 && Text("upstream_status").Split(' ')[^1] != status.ToString(CultureInfo.InvariantCulture);
            return DroidLogs.Clean($"{DroidLogs.StampOf(at)} router: at={(own ? "error" : "info")} method={Text("method")} path={Quoted(Text("uri"))} "
                + $"host={(Text("forwarded_host") is { Length: > 0 } host ? host : Text("host"))} request_id={Text("request_id")} "
                + $"fwd={Quoted(Text("client"))} status={status} service={Number("seconds") * 1000:0}ms bytes={Number("bytes"):0} protocol={Text("protocol")}");
        }
        catch (Exception e) when (e is JsonException or FormatException or InvalidOperationException or ArgumentException)
        {
            return null;
        }
    }

    private static string Quoted(string text) => $"\"{text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal)}\"";

    /// <summary>One app's lines of the log.</summary>
    internal sealed class View : IAsyncDisposable
    {
        private readonly string path;
        private readonly TimeProvider time;

        // Quotes within a value are escaped by nginx: nothing that a visitor sends looks like this.
        private readonly byte[] mark;
        private readonly byte[] buffer = new byte[LongestLine];
        private readonly long begin;
        private FileStream? file;
        private int has;

        public View(string path, string uid, TimeProvider time)
        {
            (this.path, this.time, mark) = (path, time, Encoding.ASCII.GetBytes($"\"uid\":\"{uid}\""));
            file = Open(path);
            begin = file?.Length ?? 0;
        }

        /// <summary>The requests until this was opened, as far back as is looked.</summary>
        public async IAsyncEnumerable<string> PastAsync(DateTimeOffset since, [EnumeratorCancellation] CancellationToken cancel)
        {
            var from = DroidLogs.StampOf(since);
            await using var before = begin < MostRead ? Open(path + ".1") : null;
            foreach (var (source, length) in new[] { (before, before?.Length ?? 0), (file, begin) })
            {
                if (source is null)
                    continue;
                // The first line may be half a one: then it is no JSON, and left out.
                var most = source == file ? MostRead : MostRead - begin;
                var at = source.Seek(Math.Max(0, length - most), SeekOrigin.Begin);
                has = 0;
                while (at < length && await TakeAsync(source, (int)Math.Min(length - at, LongestLine), cancel) is { Read: > 0 } part)
                {
                    at += part.Read;
                    foreach (var line in part.Lines.Where(l => string.CompareOrdinal(l, from) >= 0))
                        yield return line;
                }
            }
        }

        /// <summary>The requests after this was opened, over rotations of the log, until cancelled.</summary>
        public async Task FollowAsync(ChannelWriter<string> lines, CancellationToken cancel)
        {
            (has, var at) = (0, begin);
            file?.Seek(begin, SeekOrigin.Begin);
            DateTimeOffset? aside = null;
            while (true)
            {
                if (file is null && (file = Open(path)) is not null)
                    (has, at) = (0, 0);
                // One that was cut short by hand begins anew.
                if (file is not null && file.Length < at)
                    (has, at) = (0, file.Seek(0, SeekOrigin.Begin));
                while (file is not null && await TakeAsync(file, int.MaxValue, cancel) is { Read: > 0 } part)
                {
                    at += part.Read;
                    foreach (var line in part.Lines)
                        await lines.WriteAsync(line, cancel);
                }
                if (file is not null && IsAside(file))
                {
                    aside ??= time.GetUtcNow();
                    if (time.GetUtcNow() - aside > Lag)
                    {
                        await file.DisposeAsync();
                        (file, aside) = (null, null);
                        continue;
                    }
                }
                await Task.Delay(Poll, time, cancel);
            }
        }

        /// <summary>Reads on; the app's whole lines in it. What is left of a line waits for the next time.</summary>
        private async Task<(int Read, List<string> Lines)> TakeAsync(FileStream source, int most, CancellationToken cancel)
        {
            if (has == buffer.Length)
                has = 0;
            var read = await source.ReadAsync(buffer.AsMemory(has, Math.Min(most, buffer.Length - has)), cancel);
            has += read;
            var (lines, start) = (new List<string>(), 0);
            while (buffer.AsSpan(start, has - start).IndexOf((byte)'\n') is >= 0 and var length)
            {
                var line = buffer.AsSpan(start, length);
                if (line.IndexOf(mark) >= 0 && Form(Encoding.UTF8.GetString(line)) is { } formed)
                    lines.Add(formed);
                start += length + 1;
            }
            buffer.AsSpan(start, has - start).CopyTo(buffer);
            has -= start;
            return (read, lines);
        }

        /// <summary>Whether the open file has another name now.</summary>
        private bool IsAside(FileStream open) => new FileInfo($"/proc/self/fd/{open.SafeFileHandle.DangerousGetHandle()}").LinkTarget != path;

        private static FileStream? Open(string path)
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

        public ValueTask DisposeAsync() => file?.DisposeAsync() ?? ValueTask.CompletedTask;
    }
}
