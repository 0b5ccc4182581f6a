using System.Collections.Concurrent;
using System.Globalization;
using Appoxy.Droidd.Droids;
using Appoxy.Droidd.Volumes;
using CliWrap;
using CliWrap.Buffered;
using Docker.DotNet;

namespace Appoxy.Droidd.Isolation;

/// <summary>
/// Ends droids that write more than they may, before the disk is full for all. Quotas of the file system would hold without looking,
/// but need one that is mounted for them; so free space is looked at each second, and what droids hold as soon as it shrinks.
/// </summary>
internal sealed partial class DiskWatch(
    DroidServer server, DroidContainers containers, DroidVolumes volumes, DroiddSettings settings, ILogger<DiskWatch> log, TimeProvider time)
    : BackgroundService
{
    private const long Noticeable = 128L << 20;
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan AtLeastEvery = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan DuLimit = TimeSpan.FromMinutes(1);

    private readonly ConcurrentDictionary<string, string> folders = new();
    private Dictionary<string, long> before = [];

    /// <summary>What one running droid holds.</summary>
    /// <param name="Droid">It.</param>
    /// <param name="Live">Its container.</param>
    /// <param name="Own">Bytes beside its volumes.</param>
    /// <param name="Fullest">Its largest volume, and how much that holds.</param>
    private sealed record Held(Droid Droid, DroidContainer Live, long Own, (string Name, long Bytes) Fullest)
    {
        public long All => Own + Fullest.Bytes;
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        string? root = null;
        long freeThen = 0;
        var measuredAt = time.GetTimestamp();
        using var timer = new PeriodicTimer(Interval, time);
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            try
            {
                root ??= await containers.RootAsync(stoppingToken);
                var free = new DriveInfo(root).AvailableFreeSpace;
                if (freeThen - free < Noticeable && free >= settings.DiskReserveBytes && time.GetElapsedTime(measuredAt) < AtLeastEvery)
                {
                    freeThen = Math.Max(free, freeThen);
                    continue;
                }
                await JudgeAsync(free, stoppingToken);
                (freeThen, measuredAt) = (free, time.GetTimestamp());
            }
            catch (Exception e) when (!stoppingToken.IsCancellationRequested
                && e is DockerApiException or HttpRequestException or TimeoutException or IOException or OperationCanceledException)
            {
                LogFault(log, e.Message);
            }
        }
    }

    private async Task JudgeAsync(long free, CancellationToken cancel)
    {
        var held = await MeasureAsync(cancel);
        var ended = 0;
        foreach (var droid in held)
        {
            if (Fault(droid) is { } fault)
            {
                await EndAsync(droid, fault, cancel);
                ended++;
            }
        }
        // What is over its limit may not be what fills the disk; but it gives back most, and the next second tells.
        if (ended == 0 && free < settings.DiskReserveBytes
            && held.MaxBy(h => h.All - before.GetValueOrDefault(h.Live.Id)) is { } writer && writer.All - before.GetValueOrDefault(writer.Live.Id) > Noticeable / 2)
        {
            await EndAsync(writer, $"the app wrote {Size(writer.All - before.GetValueOrDefault(writer.Live.Id))} when the server's disk was almost full", cancel);
        }
        before = held.ToDictionary(h => h.Live.Id, h => h.All);
    }

    private string? Fault(Held held) =>
        held.Live.Spec.Limits.DiskBytes is var limit and > 0 && held.Own > limit
            ? $"the app wrote {Size(held.Own)} of files and may write {Quantities.FormatBytes(limit)}"
        : settings.VolumeBytes > 0 && held.Fullest.Bytes > settings.VolumeBytes
            ? $"the volume {held.Fullest.Name} holds {Size(held.Fullest.Bytes)} and may hold {Quantities.FormatBytes(settings.VolumeBytes)}"
        : null;

    private async Task EndAsync(Held held, string fault, CancellationToken cancel)
    {
        LogEnded(log, held.Droid.Uid, fault);
        await held.Droid.EvictAsync(held.Live.Id, fault, anew: true, cancel);
    }

    private async Task<List<Held>> MeasureAsync(CancellationToken cancel)
    {
        // One that sleeps writes nothing.
        var awake = server.Droids.SelectMany(d => d.Processes.Where(p => p.State is DroidStates.Running or DroidStates.Starting or DroidStates.Crashed)
            .Select(p => (Droid: d, Live: p.Container))).ToList();
        var upper = new Dictionary<string, string?>();
        foreach (var (_, live) in awake)
        {
            if (!folders.TryGetValue(live.Id, out var folder) && (folder = await IgnoreGoneAsync(() => containers.UpperFolderAsync(live.Id, cancel))) is not null)
                folders[live.Id] = folder;
            upper[live.Id] = folder;
        }
        foreach (var gone in folders.Keys.Except(awake.Select(a => a.Live.Id)))
            folders.TryRemove(gone, out _);
        var kept = awake.SelectMany(a => a.Live.Spec.Volumes).DistinctBy(v => v.Id).ToDictionary(v => v.Id, v => v);
        var places = new Dictionary<string, string>();
        foreach (var volume in kept.Values)
        {
            if (await volumes.FolderAsync(volume.Id, cancel) is { } folder)
                places[volume.Id] = folder;
        }
        var sizes = await SizesAsync([.. upper.Values.OfType<string>(), .. places.Values], cancel);
        var held = new List<Held>();
        foreach (var (droid, live) in awake)
        {
            var own = upper[live.Id] is { } folder ? sizes.GetValueOrDefault(folder)
                : await IgnoreGoneAsync(async () => (long?)await containers.WrittenAsync(live.Id, cancel)) ?? 0;
            var fullest = live.Spec.Volumes.Select(v => (v.Name, places.TryGetValue(v.Id, out var place) ? sizes.GetValueOrDefault(place) : 0))
                .OrderByDescending(v => v.Item2).FirstOrDefault();
            held.Add(new Held(droid, live, own, fullest));
        }
        return held;
    }

    /// <summary>Bytes on the disk below each folder. What is written or deleted meanwhile is no fault.</summary>
    public static async Task<Dictionary<string, long>> SizesAsync(IReadOnlyList<string> folders, CancellationToken cancel)
    {
        var sizes = new Dictionary<string, long>();
        foreach (var some in folders.Chunk(200))
        {
            using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
            bound.CancelAfter(DuLimit);
            var ran = await Cli.Wrap("du").WithArguments(["-sx", "--block-size=1", "--", .. some])
                .WithValidation(CommandResultValidation.None).ExecuteBufferedAsync(bound.Token);
            foreach (var line in ran.StandardOutput.Split('\n'))
            {
                if (line.Split('\t', 2) is [var bytes, var folder] && long.TryParse(bytes, NumberStyles.None, CultureInfo.InvariantCulture, out var size))
                    sizes[folder] = size;
            }
        }
        return sizes;
    }

    private static async Task<T?> IgnoreGoneAsync<T>(Func<Task<T?>> ask)
    {
        try
        {
            return await ask();
        }
        catch (DockerContainerNotFoundException)
        {
            return default;
        }
    }

    private static string Size(long bytes) => bytes >= 1L << 30
        ? string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)(1L << 30):0.0}g") : $"{bytes >> 20}m";

    [LoggerMessage(Level = LogLevel.Warning, Message = "Droid {Uid} is ended: {Fault}")]
    private static partial void LogEnded(ILogger log, string uid, string fault);

    [LoggerMessage(Level = LogLevel.Warning, Message = "What droids hold on the disk is not known: {Fault}")]
    private static partial void LogFault(ILogger log, string fault);
}
