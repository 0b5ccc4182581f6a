using System.Globalization;

namespace Appoxy.Nginx;

/// <summary>Signals to the master process that a pid file names.</summary>
internal static class NginxMaster
{
    private const int Hangup = 1;
    private const int User1 = 10;
    private const int Terminate = 15;

    /// <summary>Has it take its configuration anew; false if none runs.</summary>
    public static bool Reload(string pidFile) => Send(pidFile, Hangup);

    /// <summary>Has it open its log files anew; false if none runs.</summary>
    public static bool ReopenLogs(string pidFile) => Send(pidFile, User1);

    /// <summary>Its workers that take requests, without those that only end what they have begun; null where they can't be told.</summary>
    public static HashSet<int>? Workers(string pidFile) =>
        Children(pidFile) is { } children ? [.. children.Where(c => !c.Old).Select(c => c.Pid)] : null;

    /// <summary>
    /// Ends the oldest of the workers that only end what they have begun, if all of them hold more memory than so many bytes: each
    /// stays, with some megabytes, for as long as it has a websocket, and every reload may leave some.
    /// </summary>
    /// <returns>How many were ended, with what was open there.</returns>
    public static int EndOldest(string pidFile, long bytes)
    {
        var ended = 0;
        // The kernel lists the oldest first.
        foreach (var (pid, _) in (Children(pidFile) ?? []).Where(c => c.Old).Reverse())
        {
            bytes -= Memory(pid);
            if (bytes < 0 && Posix.Kill(pid, Terminate) == 0)
                ended++;
        }
        return ended;
    }

    private static List<(int Pid, bool Old)>? Children(string pidFile)
    {
        try
        {
            return Pid(pidFile) is { } master
                ? [.. File.ReadAllText($"/proc/{master}/task/{master}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries)
                    .Select(pid => int.Parse(pid, CultureInfo.InvariantCulture)).Select(pid => (pid, IsOld(pid)))]
                : null;
        }
        catch (IOException)
        {
            return null;
        }
    }

    /// <summary>Whether it ends, or has ended meanwhile.</summary>
    private static bool IsOld(int worker)
    {
        try
        {
            return File.ReadAllText($"/proc/{worker}/cmdline") is var title
                && (title.Length == 0 || title.Contains("is shutting down", StringComparison.Ordinal));
        }
        catch (IOException)
        {
            return true;
        }
    }

    /// <summary>What memory is a process's, in bytes, pages that it shares in part; 0 where it has ended.</summary>
    private static long Memory(int pid)
    {
        try
        {
            var line = File.ReadLines($"/proc/{pid}/smaps_rollup").FirstOrDefault(l => l.StartsWith("Pss:", StringComparison.Ordinal));
            return line?.Split(' ', StringSplitOptions.RemoveEmptyEntries) is [_, var kibibytes, ..]
                ? 1024 * long.Parse(kibibytes, CultureInfo.InvariantCulture) : 0;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return 0;
        }
    }

    private static bool Send(string pidFile, int signal) => Pid(pidFile) is { } pid && Posix.Kill(pid, signal) == 0;

    // After kill -9 the file may name a process that is no nginx at all.
    private static int? Pid(string pidFile) =>
        File.Exists(pidFile) && int.TryParse(File.ReadAllText(pidFile), CultureInfo.InvariantCulture, out var pid)
        && File.Exists($"/proc/{pid}/cmdline") && File.ReadAllText($"/proc/{pid}/cmdline").Contains("nginx", StringComparison.Ordinal)
            ? pid
            : null;
}
