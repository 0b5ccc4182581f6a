using System.Globalization;

namespace Appoxy.Nginx;

/// <summary>Signals to the master process that a pid file names.</summary>
internal static class NginxMaster
{
    private const int Hangup = 1;
    private const int User1 = 10;

    /// <summary>Has it take its configuration anew; false if none runs.</summary>
    public static bool Reload(string pidFile) => Send(pidFile, Hangup);

    /// <summary>Has it open its log files anew; false if none runs.</summary>
    public static bool ReopenLogs(string pidFile) => Send(pidFile, User1);

    // After kill -9 the file may name a process that is no nginx at all.
    private static bool Send(string pidFile, int signal) =>
        File.Exists(pidFile) && int.TryParse(File.ReadAllText(pidFile), CultureInfo.InvariantCulture, out var pid)
        && File.Exists($"/proc/{pid}/cmdline") && File.ReadAllText($"/proc/{pid}/cmdline").Contains("nginx", StringComparison.Ordinal)
        && Posix.Kill(pid, signal) == 0;
}
