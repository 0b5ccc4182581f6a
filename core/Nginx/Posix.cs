using System.Runtime.InteropServices;

namespace Appoxy.Nginx;

/// <summary>What POSIX can and .NET can't.</summary>
internal static partial class Posix
{
    private const int Hangup = 1;

    /// <summary>Sends SIGHUP; false where the process is gone or belongs to another user.</summary>
    internal static bool Hup(int pid) => Kill(pid, Hangup) == 0;

    /// <summary>Puts a link in the place of another in one step. File.Move can't: it takes a link to a folder for no file.</summary>
    /// <exception cref="IOException">The file system refuses.</exception>
    internal static void Replace(string from, string to)
    {
        if (Rename(from, to) != 0)
            throw new IOException($"can't rename {from} to {to}: {Marshal.GetLastPInvokeErrorMessage()}");
    }

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    internal static partial int Kill(int pid, int signal);

    [LibraryImport("libc", EntryPoint = "rename", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Rename(string from, string to);
}
