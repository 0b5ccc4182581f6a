using System.Globalization;

namespace Appoxy.Cluster;

/// <summary>What this machine has, and what of it is free.</summary>
public static class Machine
{
    /// <summary>A heartbeat with all that any daemon can tell.</summary>
    /// <param name="folder">On the disk that counts.</param>
    /// <param name="time">The clock.</param>
    public static Heartbeat Beat(string folder, TimeProvider time)
    {
        var disk = new DriveInfo(folder);
        return new Heartbeat
        {
            Version = typeof(Machine).Assembly.GetName().Version!.ToString(3),
            Cpus = Environment.ProcessorCount,
            MemoryBytes = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes,
            FreeMemoryBytes = FreeMemory(),
            DiskBytes = disk.TotalSize,
            FreeDiskBytes = disk.AvailableFreeSpace,
            Clock = time.GetUtcNow(),
        };
    }

    private static long FreeMemory() =>
        File.ReadLines("/proc/meminfo").FirstOrDefault(l => l.StartsWith("MemAvailable:", StringComparison.Ordinal))
            ?.Split(' ', StringSplitOptions.RemoveEmptyEntries) is [_, var kibibytes, ..]
            ? 1024 * long.Parse(kibibytes, CultureInfo.InvariantCulture) : 0;
}
