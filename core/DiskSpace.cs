namespace Appoxy;

/// <summary>Whether a disk is about to be full.</summary>
public static class DiskSpace
{
    private const long LeastBytes = 1L << 30;
    private const double LeastPart = 0.05;

    /// <summary>Looks at the disks that hold these folders, each once; those that are not there are left out.</summary>
    public static IEnumerable<Finding> Look(params IEnumerable<string> folders)
    {
        foreach (var (disk, folder) in Disks(folders))
        {
            var free = disk.AvailableFreeSpace;
            yield return free >= LeastBytes && free >= disk.TotalSize * LeastPart ? new Finding("disk")
                : new Finding("disk", $"{Quantities.FormatBytes(free)} of {Quantities.FormatBytes(disk.TotalSize)} are free at {folder}",
                    "make room, or a larger disk: builds and deployments fail first, then databases");
        }
    }

    /// <summary>The disks that hold these folders, each once and with the first of its folders.</summary>
    public static IEnumerable<(DriveInfo Disk, string Folder)> Disks(IEnumerable<string> folders) =>
        folders.Where(Directory.Exists).Select(f => (new DriveInfo(f), f)).DistinctBy(d => (d.Item1.TotalSize, d.Item1.AvailableFreeSpace));

    /// <summary>Where a program is that is called by its name, or by its path; null if nowhere.</summary>
    public static string? Program(string name) => (name.Contains('/', StringComparison.Ordinal) ? [name]
        : (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Select(d => Path.Combine(d, name))).FirstOrDefault(File.Exists);
}
