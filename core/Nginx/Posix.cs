using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

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

    /// <summary>
    /// Opens a file for reading if it is a regular one. .NET would open whatever is there, and at a FIFO wait for its other end.
    /// </summary>
    /// <returns>Null where something else is there.</returns>
    /// <exception cref="FileNotFoundException">Nothing is there.</exception>
    /// <exception cref="IOException">It can't be opened.</exception>
    internal static SafeFileHandle? OpenRegular(string path)
    {
        const int nonBlocking = 0x800, noTerminal = 0x100, closeOnExec = 0x80000, noEntry = 2, emptyPath = 0x1000, type = 1;
        const int regular = 0x8000, typeMask = 0xF000;
        var handle = Open(path, nonBlocking | noTerminal | closeOnExec);
        if (handle.IsInvalid)
            throw Marshal.GetLastPInvokeError() == noEntry ? new FileNotFoundException("no such file", path)
                : new IOException(Marshal.GetLastPInvokeErrorMessage());
        if (Stat(handle, "", emptyPath, type, out var status) == 0 && (status.Mode & typeMask) == regular)
            return handle;
        handle.Dispose();
        return null;
    }

    /// <summary>The newest 256 kB of the kernel's log; nothing where it may not be read.</summary>
    internal static string KernelLog()
    {
        const int readAll = 3;
        var buffer = new byte[256 << 10];
        return KernelLog(readAll, buffer, buffer.Length) is > 0 and var length ? System.Text.Encoding.UTF8.GetString(buffer, 0, length) : "";
    }

    /// <summary>The one part of <c>struct statx</c> that is read; its layout is the same on every machine.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    private struct Statx
    {
        [FieldOffset(28)]
        public ushort Mode;
    }

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial SafeFileHandle Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Stat(SafeFileHandle file, string path, int flags, uint mask, out Statx status);

    [LibraryImport("libc", EntryPoint = "klogctl")]
    private static partial int KernelLog(int action, Span<byte> buffer, int length);

    [LibraryImport("libc", EntryPoint = "chown", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Chown(string path, int owner, int group);

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    internal static partial int Kill(int pid, int signal);

    [LibraryImport("libc", EntryPoint = "rename", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Rename(string from, string to);
}
