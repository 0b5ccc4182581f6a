using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Threading.Channels;
using Appoxy.Nginx;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Droids;

/// <summary>
/// An app's log: what its containers printed, what the platform says of it, and its requests, as <c>timestamp source: text</c>. Read from
/// where each of them lies and merged on the way, so that a long log takes no more memory than a short one.
/// </summary>
internal sealed class DroidLogs(DockerClient docker, AccessLog requests, TimeProvider time)
{
    private const int LongestLine = 64 << 10;

    /// <summary>Of what <c>tail</c> asks for, in characters.</summary>
    private const long MostKept = 32 << 20;
    private const int StampLength = 27;
    private const string StampFormat = "yyyy-MM-ddTHH:mm:ss.ffffff'Z'";
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(250);

    /// <summary>Writes the log to <paramref name="target"/>, oldest line first.</summary>
    /// <param name="droid">The droid.</param>
    /// <param name="since">Only lines from this moment on.</param>
    /// <param name="tail">Only the last so many of the lines so far.</param>
    /// <param name="follow">Goes on with new lines until cancelled, over restarts and new deployments.</param>
    /// <param name="target">Flushed after each line that is new.</param>
    /// <param name="cancel">The caller went away.</param>
    public async Task CopyAsync(Droid droid, DateTimeOffset since, int tail, bool follow, Stream target, CancellationToken cancel)
    {
        var now = time.GetUtcNow();
        await using var access = requests.Open(droid.Uid);
        var eventCount = EventLength(droid);
        // All sources start their lines with the time in the same form.
        var merged = LogMerge.ByTimeAsync(
            [Events(droid, since), LogMerge.SettleAsync(access.PastAsync(since, cancel), GrowingLog.Lag, cancel),
                .. droid.Processes.Select(p => ReadAsync(p.Container.Id, Source(droid, p), since, now, false, tail, cancel))], cancel);
        await WriteAsync(target, tail == int.MaxValue ? merged : LastAsync(merged, tail, cancel), flush: false, cancel);
        await target.FlushAsync(cancel);
        if (!follow)
            return;
        var next = Channel.CreateBounded<string>(1000);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        var sources = Task.WhenAll(FollowEventsAsync(droid, eventCount, next.Writer, both.Token),
            FollowContainersAsync(droid, now, next.Writer, both.Token), access.FollowAsync(next.Writer, both.Token));
        // A source that fails ends the log rather than leave it out unnoticed.
        _ = sources.ContinueWith(t => next.Writer.TryComplete(t.Exception), CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
        try
        {
            await WriteAsync(target, next.Reader.ReadAllAsync(cancel), flush: true, cancel);
        }
        finally
        {
            await both.CancelAsync();
            await sources.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private static async Task WriteAsync(Stream target, IAsyncEnumerable<string> lines, bool flush, CancellationToken cancel)
    {
        await foreach (var line in lines.WithCancellation(cancel))
        {
            await target.WriteAsync(Encoding.UTF8.GetBytes(line + "\n"), cancel);
            if (flush)
                await target.FlushAsync(cancel);
        }
    }

    private static async IAsyncEnumerable<string> LastAsync(
        IAsyncEnumerable<string> lines, int count, [EnumeratorCancellation] CancellationToken cancel)
    {
        var kept = new Queue<string>();
        var length = 0L;
        await foreach (var line in lines.WithCancellation(cancel))
        {
            kept.Enqueue(line);
            length += line.Length;
            while (kept.Count > count || length > MostKept)
                length -= kept.Dequeue().Length;
        }
        foreach (var line in kept)
            yield return line;
    }

    private static async IAsyncEnumerable<string> Events(Droid droid, DateTimeOffset since)
    {
        var from = StampOf(since);
        foreach (var file in new[] { droid.Folder.Events + ".1", droid.Folder.Events }.Where(File.Exists))
        {
            await foreach (var line in File.ReadLinesAsync(file))
                if (line.Length > StampLength && string.CompareOrdinal(line, 0, from, 0, StampLength) >= 0)
                    yield return Clean(line);
        }
    }

    /// <summary>A moment as lines begin with it.</summary>
    internal static string StampOf(DateTimeOffset at) => at.UtcDateTime.ToString(StampFormat, CultureInfo.InvariantCulture);

    /// <summary>The moment that a line begins with.</summary>
    internal static DateTimeOffset MomentOf(string line) =>
        DateTimeOffset.ParseExact(line.AsSpan(0, StampLength), StampFormat, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal);

    /// <summary>Shows control characters, which could steer a terminal or fake a line, as their number: <c>\x1b</c>.</summary>
    internal static string Clean(string text)
    {
        if (!text.Any(c => char.IsControl(c) && c != '\t'))
            return text;
        var clean = new StringBuilder(text.Length + 16);
        foreach (var c in text)
        {
            if (char.IsControl(c) && c != '\t')
                clean.Append(CultureInfo.InvariantCulture, $"\\x{(int)c:x2}");
            else
                clean.Append(c);
        }
        return clean.ToString();
    }

    private static long EventLength(Droid droid) => new FileInfo(droid.Folder.Events) is { Exists: true } file ? file.Length : 0;

    private async Task FollowEventsAsync(Droid droid, long from, ChannelWriter<string> lines, CancellationToken cancel)
    {
        while (true)
        {
            await Task.Delay(Poll, time, cancel);
            var length = EventLength(droid);
            if (length < from)
                from = 0;
            if (length == from)
                continue;
            await using var file = new FileStream(droid.Folder.Events, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            file.Seek(from, SeekOrigin.Begin);
            using var reader = new StreamReader(file);
            while (await reader.ReadLineAsync(cancel) is { } line)
                await lines.WriteAsync(Clean(line), cancel);
            from = length;
        }
    }

    /// <summary>Who printed a line: <c>app</c>, and which process where there are several.</summary>
    private static string Source(Droid droid, DroidProcess process) => droid.Processes.Count == 1 ? "app" : $"app[{process.Name}]";

    private async Task FollowContainersAsync(Droid droid, DateTimeOffset from, ChannelWriter<string> lines, CancellationToken cancel)
    {
        var followed = new Dictionary<string, Task>();
        while (true)
        {
            foreach (var process in droid.Processes.Where(p => !followed.ContainsKey(p.Container.Id)))
                followed[process.Container.Id] = FollowContainerAsync(droid, process, from, lines, cancel);
            await Task.Delay(Poll, time, cancel);
        }
    }

    private async Task FollowContainerAsync(
        Droid droid, DroidProcess process, DateTimeOffset from, ChannelWriter<string> lines, CancellationToken cancel)
    {
        while (droid.Processes.FirstOrDefault(p => p.Container.Id == process.Container.Id) is { } now)
        {
            if (now.State is not (DroidStates.Snoozed or DroidStates.Stopped))
            {
                var to = time.GetUtcNow();
                try
                {
                    await foreach (var line in ReadAsync(process.Container.Id, Source(droid, process), from, null, true, int.MaxValue, cancel))
                        await lines.WriteAsync(line, cancel);
                }
                catch (DockerApiException)
                {
                    // The container was just replaced; the next round finds its successor.
                }
                // The stream ends when the container does.
                from = time.GetUtcNow() is var ended && ended > to ? ended : to;
            }
            await Task.Delay(Poll, time, cancel);
        }
    }

    private async IAsyncEnumerable<string> ReadAsync(string id, string source, DateTimeOffset since, DateTimeOffset? until, bool follow, int tail,
        [EnumeratorCancellation] CancellationToken cancel)
    {
        using var stream = await OpenAsync(id, since, until, follow, tail, cancel);
        if (stream is null)
            yield break;
        // Docker goes by milliseconds.
        var from = StampOf(since);
        var buffer = new byte[16 << 10];
        var partial = new Dictionary<MultiplexedStream.TargetStream, StringBuilder>();
        var decoders = new Dictionary<MultiplexedStream.TargetStream, Decoder>();
        var text = new char[16 << 10];
        while (true)
        {
            var read = await stream.ReadOutputAsync(buffer, 0, buffer.Length, cancel);
            if (read.EOF)
                break;
            if (!partial.TryGetValue(read.Target, out var line))
                (line, decoders[read.Target]) = (partial[read.Target] = new StringBuilder(), Encoding.UTF8.GetDecoder());
            var count = decoders[read.Target].GetChars(buffer, 0, read.Count, text, 0);
            for (var at = 0; at < count; at++)
            {
                if (text[at] != '\n')
                {
                    if (line.Length < LongestLine)
                        line.Append(text[at]);
                    continue;
                }
                if (Form(line.ToString(), source) is var formed && string.CompareOrdinal(formed, 0, from, 0, StampLength) >= 0)
                    yield return formed;
                line.Clear();
            }
        }
        foreach (var line in partial.Values.Where(l => l.Length > 0))
            yield return Form(line.ToString(), source);
    }

    /// <summary>Null where the container has gone meanwhile.</summary>
    private async Task<MultiplexedStream?> OpenAsync(
        string id, DateTimeOffset since, DateTimeOffset? until, bool follow, int tail, CancellationToken cancel)
    {
        try
        {
            return await docker.Containers.GetContainerLogsAsync(id, new ContainerLogsParameters
            {
                ShowStdout = true,
                ShowStderr = true,
                Timestamps = true,
                Follow = follow,
                Since = Stamp(since),
                Until = until is { } end ? Stamp(end) : null,
                Tail = tail == int.MaxValue ? "all" : tail.ToString(CultureInfo.InvariantCulture),
            }, cancel);
        }
        catch (DockerContainerNotFoundException)
        {
            return null;
        }
    }

    /// <summary>Docker's <c>2026-01-31T12:00:00.123456789Z text</c> as <c>2026-01-31T12:00:00.123456Z app: text</c>.</summary>
    internal static string Form(string line, string source = "app")
    {
        var space = line.IndexOf(' ', StringComparison.Ordinal);
        var stamp = space > 0 ? line[..space] : line;
        var dot = stamp.IndexOf('.', StringComparison.Ordinal);
        var fraction = dot < 0 ? "" : stamp[(dot + 1)..].TrimEnd('Z');
        var seconds = dot < 0 ? stamp.TrimEnd('Z') : stamp[..dot];
        return $"{seconds}.{fraction.PadRight(6, '0')[..6]}Z {source}: {(space > 0 ? Clean(line[(space + 1)..].TrimEnd('\r')) : "")}";
    }

    private static string Stamp(DateTimeOffset at) =>
        (at.ToUnixTimeMilliseconds() / 1000m).ToString("0.000", CultureInfo.InvariantCulture);
}
