using System.Runtime.InteropServices;

namespace Appoxy.Nginx;

/// <summary>What POSIX can and .NET can't.</summary>
internal static partial class Posix
{
    /// <summary>Puts a link in the place of another in one step. File.Move can't: it takes a link to a folder for no file.</summary>
    /// <exception cref="IOException">The file system refuses.</exception>
    internal static void Replace(string from, string to)
    {
        if (Rename(from, to) != 0)
            throw new IOException($"can't rename {from} to {to}: {Marshal.GetLastPInvokeErrorMessage()}");
    }

    /// <summary>Gives a folder to another user and group.</summary>
    /// <exception cref="IOException">The file system refuses.</exception>
    internal static void Give(string path, int owner)
    {
        if (Chown(path, owner, owner) != 0)
            throw new IOException($"can't give {path} to user {owner}: {Marshal.GetLastPInvokeErrorMessage()}");
    }

    [LibraryImport("libc", EntryPoint = "chown", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Chown(string path, int owner, int group);

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    internal static partial int Kill(int pid, int signal);

    [LibraryImport("libc", EntryPoint = "rename", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Rename(string from, string to);
}
