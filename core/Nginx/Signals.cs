using System.Runtime.InteropServices;

namespace Appoxy.Nginx;

/// <summary>POSIX signals, which .NET can handle but not send.</summary>
internal static partial class Signals
{
    internal const int Hangup = 1;

    /// <summary>Whether the signal was sent: false where the process is gone or belongs to another user.</summary>
    internal static bool Send(int pid, int signal) => Kill(pid, signal) == 0;

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int Kill(int pid, int signal);
}
