using System.Collections.Concurrent;
using Appoxy.Droidd.Droids;
using Docker.DotNet;

namespace Appoxy.Droidd.Isolation;

/// <summary>
/// Ends processes that write to their log without pause. No limit of a container's holds there: dockerd and its shim read the lines, at
/// a processor's cost for one that writes all it can, though the app itself takes next to none; and Docker has no limit for them. So
/// the pieces of the log tell: how much was written since the last was full.
/// </summary>
internal sealed partial class LogWatch(
    DroidServer server, DroidContainers containers, DroiddSettings settings, ILogger<LogWatch> log, TimeProvider time) : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    /// <summary>How many looks in a row find too much: an app may tell a lot at its start, or of a fault.</summary>
    private const int Looks = 3;

    private readonly ConcurrentDictionary<string, string> files = new();
    private readonly Dictionary<string, int> found = [];

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        if (settings.LogRateBytes == 0)
            return;
        using var timer = new PeriodicTimer(Interval, time);
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            try
            {
                await LookAsync(stoppingToken);
            }
            catch (Exception e) when (!stoppingToken.IsCancellationRequested
                && e is DockerApiException or HttpRequestException or TimeoutException or IOException or OperationCanceledException)
            {
                LogFault(log, e.Message);
            }
        }
    }

    private async Task LookAsync(CancellationToken cancel)
    {
        var awake = server.Droids.SelectMany(d => d.Processes.Where(p => p.State is DroidStates.Running or DroidStates.Starting or DroidStates.Crashed)
            .Select(p => (Droid: d, p.Container.Id))).ToList();
        foreach (var gone in files.Keys.Except(awake.Select(a => a.Id)))
        {
            files.TryRemove(gone, out _);
            found.Remove(gone);
        }
        foreach (var (droid, id) in awake)
        {
            if (!files.TryGetValue(id, out var file))
                files[id] = file = await containers.LogFileAsync(id, cancel) ?? "";
            var rate = file.Length == 0 ? 0 : BytesPerSecond(file, time.GetUtcNow().UtcDateTime);
            var times = found[id] = rate > settings.LogRateBytes ? found.GetValueOrDefault(id) + 1 : 0;
            if (times < Looks)
                continue;
            found.Remove(id);
            var fault = $"the app wrote {(long)rate >> 20}m a second to its log and may write {settings.LogRate}";
            LogEnded(log, droid.Uid, fault);
            await droid.EvictAsync(id, fault, anew: false, cancel);
        }
    }

    /// <summary>How fast a log grows that Docker keeps in pieces, of which <c>.1</c> is the last full one; 0 before there are two.</summary>
    /// <param name="file">The piece that is written to.</param>
    /// <param name="now">The moment, in UTC.</param>
    internal static double BytesPerSecond(string file, DateTime now)
    {
        var (newest, last, older) = (new FileInfo(file), new FileInfo(file + ".1"), new FileInfo(file + ".2"));
        // One that was loud once and is quiet now.
        if (!last.Exists || !newest.Exists || now - newest.LastWriteTimeUtc > 2 * Interval)
            return 0;
        try
        {
            var (bytes, since) = older.Exists ? (last.Length + newest.Length, now - older.LastWriteTimeUtc) : (newest.Length, now - last.LastWriteTimeUtc);
            // Of a moment no rate can be told, and a clock that was set back tells nothing.
            return since < TimeSpan.FromMilliseconds(10) ? 0 : bytes / since.TotalSeconds;
        }
        catch (FileNotFoundException)
        {
            // Docker has just begun a new piece.
            return 0;
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "Droid {Uid} is ended: {Fault}")]
    private static partial void LogEnded(ILogger log, string uid, string fault);

    [LoggerMessage(Level = LogLevel.Warning, Message = "What droids write to their logs is not known: {Fault}")]
    private static partial void LogFault(ILogger log, string fault);
}
