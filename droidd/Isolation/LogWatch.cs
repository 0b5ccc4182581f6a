using Appoxy.Droidd.Droids;
using Docker.DotNet;

namespace Appoxy.Droidd.Isolation;

/// <summary>
/// Ends processes that write to their log without pause. No limit of a container's holds there: dockerd and its shim read the lines, at
/// a processor's cost for one that writes all it can, though the app itself takes next to none; and Docker has no limit for them. So
/// the files of the log tell how much it grew. An app may tell a lot at its start, or of a fault: each may write
/// <see cref="Burst"/> seconds' worth of its rate beyond it.
/// </summary>
internal sealed partial class LogWatch(
    DroidServer server, DroidContainers containers, DroiddSettings settings, ILogger<LogWatch> log, TimeProvider time) : BackgroundService
{
    // All visitors of the server wait longer meanwhile.
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(250);

    private const int Burst = 4;

    private readonly Dictionary<string, Looked> before = [];

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
        foreach (var gone in before.Keys.Except(awake.Select(a => a.Id)).ToList())
            before.Remove(gone);
        foreach (var (droid, id) in awake)
        {
            if (!before.TryGetValue(id, out var then))
            {
                var file = await containers.LogFileAsync(id, cancel);
                before[id] = new Looked(file, LogSize.Of(file), time.GetTimestamp(), 0);
                continue;
            }
            var (size, at) = (then.Size.IsUnchanged(then.File) ? then.Size : LogSize.Of(then.File), time.GetTimestamp());
            var (grown, seconds) = (size.GrownSince(then.Size), time.GetElapsedTime(then.At, at).TotalSeconds);
            var beyond = Math.Max(0, then.Beyond + grown - settings.LogRateBytes * seconds);
            before[id] = new Looked(then.File, size, at, beyond);
            if (beyond <= Burst * settings.LogRateBytes)
                continue;
            before.Remove(id);
            var fault = $"the app wrote {(long)(grown / seconds) >> 20}m a second to its log and may write {settings.LogRate}";
            LogEnded(log, droid.Uid, fault);
            await droid.EvictAsync(id, fault, anew: false, cancel);
        }
    }

    /// <summary>What the last look at a log found.</summary>
    /// <param name="File">The piece that Docker writes to; null if it keeps none.</param>
    /// <param name="Size">How large it was.</param>
    /// <param name="At">When, as a timestamp.</param>
    /// <param name="Beyond">Bytes written that its rate did not allow, less what it could have written since.</param>
    private readonly record struct Looked(string? File, LogSize Size, long At, double Beyond);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Droid {Uid} is ended: {Fault}")]
    private static partial void LogEnded(ILogger log, string uid, string fault);

    [LoggerMessage(Level = LogLevel.Warning, Message = "What droids write to their logs is not known: {Fault}")]
    private static partial void LogFault(ILogger log, string fault);
}

/// <summary>A log that Docker keeps in pieces, of which <c>.1</c> is the last full one and <c>.2</c> the one before.</summary>
/// <param name="Newest">Bytes in the piece that is written to.</param>
/// <param name="Last">Bytes in the last full one.</param>
/// <param name="LastFull">When that was full.</param>
/// <param name="OlderFull">When the one before was.</param>
internal readonly record struct LogSize(long Newest, long Last, DateTime LastFull, DateTime OlderFull)
{
    /// <summary>Looks at the pieces.</summary>
    /// <param name="file">The one that is written to; null if there is none.</param>
    public static LogSize Of(string? file)
    {
        if (file is null)
            return default;
        var (newest, last, older) = (new FileInfo(file), new FileInfo(file + ".1"), new FileInfo(file + ".2"));
        return new LogSize(newest.Exists ? newest.Length : 0, last.Exists ? last.Length : 0, last.LastWriteTimeUtc, older.LastWriteTimeUtc);
    }

    /// <summary>Whether nothing was written since: the cheap answer for most logs at most times.</summary>
    public bool IsUnchanged(string? file) => file is null || (new FileInfo(file) is var newest && (newest.Exists ? newest.Length : 0) == Newest);

    /// <summary>How many bytes were written since; at least, where more than two pieces became full meanwhile.</summary>
    public long GrownSince(LogSize before) => Math.Max(0, LastFull == before.LastFull ? Newest - before.Newest
        : OlderFull == before.LastFull ? Last - before.Newest + Newest
        : 2 * Last - before.Newest + Newest);
}
