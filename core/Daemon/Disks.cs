using System.Diagnostics.Metrics;

namespace Appoxy.Daemon;

/// <summary>How full the disks are.</summary>
public static class Disks
{
    /// <summary>Tells of the disks that hold these folders, each once; folders that are not there are left out.</summary>
    public static void AddDisks(this Meter meter, params string[] folders)
    {
        meter.CreateObservableGauge("appoxy.disk.free", () => Look(folders, d => d.AvailableFreeSpace), "By", "Free on the disk that holds the folder.");
        meter.CreateObservableGauge("appoxy.disk.size", () => Look(folders, d => d.TotalSize), "By", "The size of the disk that holds the folder.");
    }

    private static IEnumerable<Measurement<long>> Look(string[] folders, Func<DriveInfo, long> size) =>
        DiskSpace.Disks(folders).Select(d => new Measurement<long>(size(d.Disk), new KeyValuePair<string, object?>("folder", d.Folder)));
}
