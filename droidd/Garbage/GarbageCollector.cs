using System.Globalization;
using System.Text.RegularExpressions;
using Appoxy.Droidd.Builds;
using Appoxy.Droidd.Droids;
using Appoxy.Droidd.Images;
using Appoxy.Droidd.Isolation;
using Docker.DotNet;

namespace Appoxy.Droidd.Garbage;

/// <summary>
/// Gives back disk: at once what nothing can want again, such as the clone of a build that is over; of what a later build may find
/// useful what is over the budgets, oldest first; and all of that while the disk is short. What a container, a kept version or a build
/// uses is never touched, and users' volumes are not looked at.
/// </summary>
internal sealed partial class GarbageCollector(
    DockerClient docker, DroidServer server, DroidContainers containers, UnusedImages images, BuildQueue queue, UploadedFolder uploads,
    DroiddSettings settings, ILogger<GarbageCollector> log, TimeProvider time) : BackgroundService
{
    private static readonly TimeSpan LookEvery = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan CollectEvery = TimeSpan.FromMinutes(10);

    /// <summary>How long builds that wait are held up for those that run, where the disk is short.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    /// <summary>Of the budget for logs, while the disk is short.</summary>
    private const int ShortLogs = 10;

    private readonly SemaphoreSlim gate = new(1, 1);
    private readonly Dictionary<string, DateTimeOffset> strangers = [];
    private readonly Dictionary<string, (DateTimeOffset Used, long Bytes)> measured = [];
    private string? root;
    private volatile DiskStatus? status;

    /// <summary>How the disk is, and what was collected last; null before the first look.</summary>
    public DiskStatus? Status => status;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        long? collectedAt = null;
        using var timer = new PeriodicTimer(LookEvery, time);
        do
        {
            try
            {
                await server.ReadyAsync(stoppingToken);
                var drive = new DriveInfo(await RootAsync(stoppingToken));
                status = (status ?? new DiskStatus(0, 0)) with { FreeBytes = drive.AvailableFreeSpace, TotalBytes = drive.TotalSize };
                if (collectedAt is null || IsShort(drive) || time.GetElapsedTime(collectedAt.Value) >= CollectEvery)
                {
                    collectedAt = time.GetTimestamp();
                    await CollectAsync(all: false, stoppingToken);
                }
            }
            catch (Exception e) when (!stoppingToken.IsCancellationRequested && e is DockerApiException or HttpRequestException or TimeoutException
                or IOException or UnauthorizedAccessException or OperationCanceledException)
            {
                LogFault(log, e.Message);
            }
        }
        while (await timer.WaitForNextTickAsync(stoppingToken));
    }

    /// <summary>Collects now.</summary>
    /// <param name="all">Whether all goes that nothing uses, as while the disk is short; else what is over its budget.</param>
    /// <param name="cancel">Ends it.</param>
    public async Task<Collection> CollectAsync(bool all, CancellationToken cancel)
    {
        await gate.WaitAsync(cancel);
        try
        {
            var drive = new DriveInfo(await RootAsync(cancel));
            var isShort = IsShort(drive);
            var tally = new Tally();
            ClearFolders(tally);
            var logs = ClearLogs(all || isShort ? settings.LogBudgetBytes / ShortLogs : settings.LogBudgetBytes, tally);
            long? caches = null;
            // A build may be about to use what no image or container shows yet.
            using (var alone = await queue.EnterAloneAsync(all || isShort ? Patience : TimeSpan.Zero, cancel))
            {
                if (alone is not null)
                    caches = await ClearCachesAsync(all, drive, tally, cancel);
            }
            var collection = new Collection(time.GetUtcNow(), tally.Removed, tally.Bytes, Busy: caches is null);
            status = new DiskStatus(drive.AvailableFreeSpace, drive.TotalSize)
            {
                CacheBytes = caches ?? status?.CacheBytes, LogBytes = logs, Collected = collection.Removed > 0 || all ? collection : status?.Collected,
            };
            if (tally.Removed > 0)
                LogCollected(log, tally.Removed, tally.Bytes >> 20, string.Join(", ", tally.Names), drive.AvailableFreeSpace >> 20, drive.TotalSize >> 20);
            return collection;
        }
        finally
        {
            gate.Release();
        }
    }

    private async Task<string> RootAsync(CancellationToken cancel) => root ??= await containers.RootAsync(cancel);

    private bool IsShort(DriveInfo drive) => drive.AvailableFreeSpace < settings.DiskPressureBytes(drive.TotalSize);

    /// <summary>Clones, uploads and folders of which a droidd that was killed could not dispose.</summary>
    private void ClearFolders(Tally tally)
    {
        foreach (var path in Directory.EnumerateDirectories(settings.DataDir).Where(d => Names.IsUid(Path.GetFileName(d))).ToList())
        {
            var uid = Path.GetFileName(path);
            var folder = new DroidFolder(settings.DataDir, uid);
            if (server.Find(uid) is not { } droid)
            {
                // An upload comes before the spec of an app that is new here.
                if (IsStranger("folder " + uid) && time.GetUtcNow() - Newest(path) >= settings.CollectAfterTime)
                    tally.Note($"folder {uid}", () => BytesBelow(path), () => folder.Delete());
                continue;
            }
            foreach (var number in folder.Numbers().Where(n => !server.IsBuilding(uid, n)))
            {
                var source = folder.Source(number);
                if (Directory.Exists(source))
                    tally.Note($"source of {uid}:{number}", () => BytesBelow(source), () => folder.RemoveSource(number));
            }
            uploads.Prune(folder.Uploads, [droid.Spec?.Source.Upload, droid.Live?.Spec.Source.Upload],
                file => tally.Note($"upload of {uid}", () => file.Length, file.Delete));
        }
    }

    /// <summary>Removes the oldest build logs, but for each app's newest; what the rest take.</summary>
    private long ClearLogs(long budget, Tally tally)
    {
        var logs = server.Droids.SelectMany(d => d.Folder.Numbers().Skip(1).Where(n => !server.IsBuilding(d.Uid, n))
                .Select(n => (Name: $"log of {d.Uid}:{n}", Files: LogFiles(d.Folder.Deployment(n)))))
            .Where(l => l.Files.Count > 0).OrderBy(l => l.Files.Max(f => f.LastWriteTimeUtc)).ToList();
        var total = logs.Sum(l => l.Files.Sum(f => f.Length))
            + server.Droids.Sum(d => d.Folder.Numbers().Take(1).Sum(n => LogFiles(d.Folder.Deployment(n)).Sum(f => f.Length)));
        foreach (var (name, files) in logs)
        {
            if (total <= budget)
                break;
            var bytes = files.Sum(f => f.Length);
            tally.Note(name, () => bytes, () => files.ForEach(f => f.Delete()));
            total -= bytes;
        }
        return total;
    }

    private static List<FileInfo> LogFiles(string deployment) =>
        [.. new[] { "out", "err" }.Select(s => new FileInfo(BuildLog.PathOf(deployment, s))).Where(f => f.Exists)];

    /// <summary>Removes caches of builds and images; what the rest take. No build runs.</summary>
    private async Task<long> ClearCachesAsync(bool all, DriveInfo drive, Tally tally, CancellationToken cancel)
    {
        var unused = new List<Unused>(await images.FindAsync(cancel));
        foreach (var (name, uid, mountpoint, made) in await CacheVolumesAsync(cancel))
        {
            Task RemoveAsync(CancellationToken stop) => docker.Volumes.RemoveAsync(name, force: false, stop);
            if (server.Find(uid) is { } droid)
            {
                var used = LastBuild(droid) ?? made;
                unused.Add(new Unused($"cache {name}", await BytesAsync(name, mountpoint, used, cancel), used, RemoveAsync));
            }
            else if (IsStranger("cache " + uid))
            {
                await tally.NoteAsync(new Unused($"cache {name}", await BytesAsync(name, mountpoint, made, cancel), made, RemoveAsync), cancel);
            }
        }
        var downloads = Path.Combine(settings.DataDir, ".pack");
        if (Directory.Exists(downloads))
        {
            var used = Newest(downloads);
            unused.Add(new Unused("pack's downloads", await BytesAsync(".pack", downloads, used, cancel), used, _ =>
            {
                Directory.Delete(downloads, recursive: true);
                return Task.CompletedTask;
            }));
        }
        var bytes = unused.Sum(u => u.Bytes);
        foreach (var surplus in Unused.Surplus(unused, settings.CacheBudgetBytes, time.GetUtcNow() - settings.CollectAfterTime, () => all || IsShort(drive)))
        {
            if (await tally.NoteAsync(surplus, cancel))
                bytes -= surplus.Bytes;
        }
        return bytes;
    }

    /// <summary>The volumes that builds of apps keep: an app's own two, and the one that pack names after its image.</summary>
    private async Task<IReadOnlyList<(string Name, string Uid, string Mountpoint, DateTimeOffset Made)>> CacheVolumesAsync(CancellationToken cancel)
    {
        var found = await docker.Volumes.ListAsync(new()
        {
            Filters = new Dictionary<string, IDictionary<string, bool>>
            {
                ["name"] = new Dictionary<string, bool> { ["appoxy-cache-"] = true, ["pack-cache-appoxy_"] = true },
            },
        }, cancel);
        return [.. (found.Volumes ?? []).Select(v => (v, CacheName().Match(v.Name))).Where(v => v.Item2.Success)
            .Select(v => (v.v.Name, v.Item2.Groups[1].Value, v.v.Mountpoint,
                DateTimeOffset.TryParse(v.v.CreatedAt, CultureInfo.InvariantCulture, out var at) ? at : time.GetUtcNow()))];
    }

    [GeneratedRegex(@"\A(?:appoxy-cache-|pack-cache-appoxy_)([a-z2-7]{7})[-_]")]
    private static partial Regex CacheName();

    /// <summary>Measured anew only after another build: to count a cache's files costs as much as it has files.</summary>
    private async Task<long> BytesAsync(string name, string folder, DateTimeOffset used, CancellationToken cancel)
    {
        if (measured.TryGetValue(name, out var known) && known.Used == used)
            return known.Bytes;
        var bytes = (await DiskWatch.SizesAsync([folder], cancel)).GetValueOrDefault(folder);
        measured[name] = (used, bytes);
        return bytes;
    }

    private static DateTimeOffset? LastBuild(Droid droid) => droid.Folder.Numbers()
        .Select(n => new FileInfo(BuildLog.PathOf(droid.Folder.Deployment(n), "out"))).FirstOrDefault(f => f.Exists)?.LastWriteTimeUtc;

    /// <summary>Whether something has been of an app that is not here for long enough: it may be about to come.</summary>
    private bool IsStranger(string what)
    {
        strangers.TryAdd(what, time.GetUtcNow());
        return time.GetUtcNow() - strangers[what] >= settings.CollectAfterTime;
    }

    private static readonly EnumerationOptions Everything = new()
    {
        RecurseSubdirectories = true, AttributesToSkip = FileAttributes.ReparsePoint, IgnoreInaccessible = true,
    };

    private static long BytesBelow(string folder) => new DirectoryInfo(folder).EnumerateFiles("*", Everything).Sum(f => f.Length);

    /// <summary>When something in a folder was changed last, as far as one level below tells.</summary>
    private static DateTimeOffset Newest(string folder) => new DirectoryInfo(folder).EnumerateFileSystemInfos()
        .Select(f => f.LastWriteTimeUtc).Append(Directory.GetLastWriteTimeUtc(folder)).Max();

    /// <summary>What a collection has removed.</summary>
    private sealed class Tally
    {
        private const int MostNames = 10;

        public int Removed { get; private set; }

        public long Bytes { get; private set; }

        public List<string> Names { get; } = [];

        public void Note(string name, Func<long> bytes, Action remove)
        {
            var size = bytes();
            remove();
            Add(name, size);
        }

        /// <returns>False where it is in use after all, or gone.</returns>
        public async Task<bool> NoteAsync(Unused unused, CancellationToken cancel)
        {
            try
            {
                await unused.RemoveAsync(cancel);
            }
            catch (DockerApiException e) when (e.StatusCode is System.Net.HttpStatusCode.Conflict or System.Net.HttpStatusCode.NotFound)
            {
                return false;
            }
            Add(unused.Name, unused.Bytes);
            return true;
        }

        private void Add(string name, long bytes)
        {
            (Removed, Bytes) = (Removed + 1, Bytes + bytes);
            if (Names.Count <= MostNames)
                Names.Add(Names.Count == MostNames ? "…" : name);
        }
    }

    [LoggerMessage(Level = LogLevel.Information,
        Message = "Collected {Removed} pieces of garbage, {Mebibytes} MiB: {Names}; {Free} of {Total} MiB are free")]
    private static partial void LogCollected(ILogger log, int removed, long mebibytes, string names, long free, long total);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Garbage is left for now: {Fault}")]
    private static partial void LogFault(ILogger log, string fault);
}
