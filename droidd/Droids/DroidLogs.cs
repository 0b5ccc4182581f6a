using System.Globalization;
using System.Text;
using System.Threading.Channels;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Droids;

/// <summary>An app's log: what its container printed and what the platform says of it, as <c>timestamp source: text</c>.</summary>
internal sealed class DroidLogs(DockerClient docker, TimeProvider time)
{
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(250);

    /// <summary>Writes the log to <paramref name="target"/>, oldest line first.</summary>
    /// <param name="droid">The droid.</param>
    /// <param name="since">Only lines after this moment.</param>
    /// <param name="tail">Only the last so many of the lines so far.</param>
    /// <param name="follow">Goes on with new lines until cancelled, over restarts and new deployments.</param>
    /// <param name="target">Flushed after each line.</param>
    /// <param name="cancel">The caller went away.</param>
    public async Task CopyAsync(Droid droid, DateTimeOffset since, int tail, bool follow, Stream target, CancellationToken cancel)
    {
        var now = time.GetUtcNow();
        var lines = Events(droid, since).ToList();
        var eventCount = EventLength(droid);
        foreach (var process in droid.Processes)
            await ReadAsync(process.Container.Id, Source(droid, process), since, now, false, tail, line => lines.Add(line), cancel);
        // Both sources start their lines with the time in the same form.
        foreach (var line in lines.Order(StringComparer.Ordinal).TakeLast(tail))
            await WriteAsync(target, line, cancel);
        if (!follow)
            return;
        var next = Channel.CreateBounded<string>(1000);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        var sources = Task.WhenAll(FollowEventsAsync(droid, eventCount, next.Writer, both.Token), FollowContainersAsync(droid, now, next.Writer, both.Token));
        try
        {
            await foreach (var line in next.Reader.ReadAllAsync(cancel))
                await WriteAsync(target, line, cancel);
        }
        finally
        {
            await both.CancelAsync();
            await sources.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private static async Task WriteAsync(Stream target, string line, CancellationToken cancel)
    {
        await target.WriteAsync(Encoding.UTF8.GetBytes(line + "\n"), cancel);
        await target.FlushAsync(cancel);
    }

    private static IEnumerable<string> Events(Droid droid, DateTimeOffset since) => File.Exists(droid.Folder.Events)
        ? File.ReadLines(droid.Folder.Events).Where(l => l.Length > 27
            && DateTimeOffset.TryParse(l.AsSpan(0, 27), CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var at) && at >= since)
        : [];

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
                await lines.WriteAsync(line, cancel);
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
                    await ReadAsync(process.Container.Id, Source(droid, process), from, null, true, int.MaxValue, line => lines.TryWrite(line), cancel);
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

    private async Task ReadAsync(
        string id, string source, DateTimeOffset since, DateTimeOffset? until, bool follow, int tail, Action<string> add, CancellationToken cancel)
    {
        using var stream = await docker.Containers.GetContainerLogsAsync(id, new ContainerLogsParameters
        {
            ShowStdout = true,
            ShowStderr = true,
            Timestamps = true,
            Follow = follow,
            Since = Stamp(since),
            Until = until is { } end ? Stamp(end) : null,
            Tail = tail == int.MaxValue ? "all" : tail.ToString(CultureInfo.InvariantCulture),
        }, cancel);
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
            foreach (var c in text.AsSpan(0, count))
            {
                if (c != '\n')
                {
                    line.Append(c);
                    continue;
                }
                add(Form(line.ToString(), source));
                line.Clear();
            }
        }
        foreach (var line in partial.Values.Where(l => l.Length > 0))
            add(Form(line.ToString(), source));
    }

    /// <summary>Docker's <c>2026-01-31T12:00:00.123456789Z text</c> as <c>2026-01-31T12:00:00.123456Z app: text</c>.</summary>
    internal static string Form(string line, string source = "app")
    {
        var space = line.IndexOf(' ', StringComparison.Ordinal);
        var stamp = space > 0 ? line[..space] : line;
        var dot = stamp.IndexOf('.', StringComparison.Ordinal);
        var fraction = dot < 0 ? "" : stamp[(dot + 1)..].TrimEnd('Z');
        var seconds = dot < 0 ? stamp.TrimEnd('Z') : stamp[..dot];
        return $"{seconds}.{fraction.PadRight(6, '0')[..6]}Z {source}: {(space > 0 ? line[(space + 1)..].TrimEnd('\r') : "")}";
    }

    private static string Stamp(DateTimeOffset at) =>
        (at.ToUnixTimeMilliseconds() / 1000m).ToString("0.000", CultureInfo.InvariantCulture);
}
