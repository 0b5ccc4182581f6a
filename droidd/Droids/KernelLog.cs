using Appoxy.Nginx;

namespace Appoxy.Droidd.Droids;

/// <summary>
/// What the kernel says of containers that ran out of memory. Docker tells it too, but not on every kernel, and not where a child of the
/// container's first process was killed.
/// </summary>
internal static class KernelLog
{
    /// <summary>128 + SIGKILL.</summary>
    private const long Killed = 137;

    /// <summary>Whether the kernel has killed a container's process for its memory limit.</summary>
    /// <param name="id">Docker's id.</param>
    /// <param name="exitCode">What the container ended with: whoever was killed ends with 137.</param>
    public static bool SaysOutOfMemory(string id, long exitCode) =>
        exitCode == Killed && Posix.KernelLog().Split('\n').Any(l => l.Contains("oom_memcg=", StringComparison.Ordinal) && l.Contains(id, StringComparison.Ordinal));
}
