using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using System.Threading.Channels;
using Appoxy.Nginx;

namespace Appoxy.Droidd.Droids;

/// <summary>
/// The requests that the local nginx passed to droids, out of its access log: one JSON object a line. nginx only appends to it, as it
/// would anyway; who wants to see an app's lines reads the file.
/// </summary>
internal sealed class AccessLog(DroiddSettings settings, TimeProvider time)
{
    /// <summary>How far back it is looked for requests, in bytes of all apps' lines.</summary>
    private const long MostRead = 64 << 20;
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(250);

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
            // What the app itself answers is no fault of the router's, whatever it is; the hook, at its unix socket, is none.
            var own = status is 502 or 503 or 504 && (Text("upstream").Split(' ')[^1].StartsWith("unix:", StringComparison.Ordinal)
                || Text("upstream_status").Split(' ')[^1] != status.ToString(CultureInfo.InvariantCulture));
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
    internal sealed class View(string path, string uid, TimeProvider time) : IAsyncDisposable
    {
        private readonly GrowingLog log = new(path, time);

        // Quotes within a value are escaped by nginx: nothing that a visitor sends looks like this.
        private readonly byte[] mark = Encoding.ASCII.GetBytes($"\"uid\":\"{uid}\"");

        /// <summary>The requests until this was opened, as far back as is looked.</summary>
        public async IAsyncEnumerable<string> PastAsync(DateTimeOffset since, [EnumeratorCancellation] CancellationToken cancel)
        {
            var (from, buffer) = (DroidLogs.StampOf(since), new byte[GrowingLog.LongestLine]);
            await using var before = log.Begin < MostRead ? GrowingLog.Open(path + ".1") : null;
            foreach (var (source, length) in new[] { (before, before?.Length ?? 0), (log.File, log.Begin) })
            {
                if (source is null)
                    continue;
                // The first line may be half a one: then it is no JSON, and left out.
                var most = source == log.File ? MostRead : MostRead - log.Begin;
                var (at, has) = (source.Seek(Math.Max(0, length - most), SeekOrigin.Begin), 0);
                while (at < length && await source.ReadAsync(buffer.AsMemory(has, (int)Math.Min(length - at, buffer.Length - has)), cancel) is > 0 and var read)
                {
                    (at, has) = (at + read, has + read);
                    var whole = buffer.AsSpan(0, has).LastIndexOf((byte)'\n') + 1;
                    foreach (var line in Mine(buffer.AsSpan(0, whole)).Where(l => string.CompareOrdinal(l, from) >= 0))
                        yield return line;
                    buffer.AsSpan(whole, has - whole).CopyTo(buffer);
                    has = has - whole == buffer.Length ? 0 : has - whole;
                }
            }
        }

        /// <summary>The requests after this was opened, over rotations of the log, until cancelled.</summary>
        public Task FollowAsync(ChannelWriter<string> to, CancellationToken cancel) => log.FollowAsync(async lines =>
        {
            foreach (var line in Mine(lines.Span))
                await to.WriteAsync(line, cancel);
        }, Poll, cancel);

        private List<string> Mine(ReadOnlySpan<byte> lines)
        {
            var mine = new List<string>();
            foreach (var range in lines.Split((byte)'\n'))
            {
                if (lines[range].IndexOf(mark) >= 0 && Form(Encoding.UTF8.GetString(lines[range])) is { } formed)
                    mine.Add(formed);
            }
            return mine;
        }

        public ValueTask DisposeAsync() => log.DisposeAsync();
    }
}
