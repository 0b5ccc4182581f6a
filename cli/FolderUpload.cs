using System.Diagnostics;
using System.Formats.Tar;
using System.IO.Compression;
using System.Net;
using System.Text;

namespace Appoxy.Cli;

/// <summary>
/// A folder on its way to Appoxy, as a tar.gz that is made while it is sent. What belongs to it, git says where the folder has
/// <c>.gitignore</c> files or lies in a repository: all that git would add. Of that, a <c>.dockerignore</c> leaves out its share.
/// </summary>
internal sealed class FolderUpload : HttpContent
{
    private static readonly TimeSpan GitPatience = TimeSpan.FromMinutes(1);
    private readonly string folder;
    private readonly IReadOnlyList<string> files;
    private readonly Action<long> sent;

    private FolderUpload(string folder, IReadOnlyList<string> files, Action<long> sent)
    {
        (this.folder, this.files, this.sent) = (folder, files, sent);
        Headers.ContentType = new("application/gzip");
    }

    public int Files => files.Count;

    /// <summary>Finds what is to be sent.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="useGit">Whether git's ignore rules count.</param>
    /// <param name="sent">Told how many bytes have been sent.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="Failure">There is no such folder, it has nothing to send, or its rules can't be read.</exception>
    public static async Task<FolderUpload> OfAsync(string folder, bool useGit, Action<long> sent, CancellationToken cancel)
    {
        folder = Path.GetFullPath(folder);
        if (!Directory.Exists(folder))
            throw Failure.Usage($"there is no folder {folder}");
        try
        {
            var ignored = DockerIgnore.Of(folder);
            var all = useGit && UsesGit(folder) ? await GitFilesAsync(folder, cancel) : AllBelow(folder, "");
            var files = all.Where(f => !ignored.Excludes(f)).Distinct().Order(StringComparer.Ordinal).ToList();
            return files.Count > 0 ? new FolderUpload(folder, files, sent) : throw Failure.Usage($"there is nothing to deploy in {folder}");
        }
        catch (FormatException e)
        {
            throw Failure.Usage(e.Message);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Failure.Usage($"can't read {folder}: {e.Message}");
        }
    }

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => SerializeToStreamAsync(stream, context, default);

    protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        await using var zip = new GZipStream(new CountingStream(stream, sent), CompressionLevel.Fastest, leaveOpen: true);
        await using var tar = new TarWriter(zip, TarEntryFormat.Gnu, leaveOpen: true);
        foreach (var name in files)
        {
            var info = new FileInfo(Path.Combine(folder, name));
            if (info.LinkTarget is { } link)
            {
                await tar.WriteEntryAsync(Entry(TarEntryType.SymbolicLink, name, info, link), cancellationToken);
                continue;
            }
            // Sockets and the like are no part of a source.
            if (!info.Exists || (info.Attributes & FileAttributes.Device) != 0)
                continue;
            await using var file = new FileStream(info.FullName, new FileStreamOptions
            {
                Share = FileShare.ReadWrite | FileShare.Delete, BufferSize = 64 << 10, Options = FileOptions.Asynchronous,
            });
            var entry = Entry(TarEntryType.RegularFile, name, info, null);
            entry.DataStream = file;
            await tar.WriteEntryAsync(entry, cancellationToken);
        }
    }

    protected override bool TryComputeLength(out long length)
    {
        length = 0;
        return false;
    }

    /// <summary>Nothing that is this machine's alone, so that the same folder gives the same bytes.</summary>
    private static GnuTarEntry Entry(TarEntryType type, string name, FileInfo info, string? link)
    {
        var entry = new GnuTarEntry(type, name)
        {
            ModificationTime = DateTimeOffset.FromUnixTimeSeconds(new DateTimeOffset(info.LastWriteTimeUtc).ToUnixTimeSeconds()),
            Mode = type == TarEntryType.SymbolicLink ? (UnixFileMode)0b111_111_111 : info.UnixFileMode & (UnixFileMode)0b111_101_101,
        };
        if (link is not null)
            entry.LinkName = link;
        return entry;
    }

    private static IEnumerable<string> AllBelow(string top, string below)
    {
        foreach (var entry in new DirectoryInfo(Path.Combine(top, below)).EnumerateFileSystemInfos())
        {
            if (entry.Name == ".git")
                continue;
            var path = below.Length == 0 ? entry.Name : $"{below}/{entry.Name}";
            if (entry is not DirectoryInfo { LinkTarget: null })
            {
                yield return path;
                continue;
            }
            foreach (var inner in AllBelow(top, path))
                yield return inner;
        }
    }

    private static bool UsesGit(string folder)
    {
        for (var at = new DirectoryInfo(folder); at is not null; at = at.Parent)
        {
            if (Path.Exists(Path.Combine(at.FullName, ".git")))
                return true;
        }
        return Directory.EnumerateFiles(folder, ".gitignore", SearchOption.AllDirectories).Any();
    }

    /// <summary>All that git has or would add, relative to the folder; repositories within it by their own rules.</summary>
    private static async Task<List<string>> GitFilesAsync(string folder, CancellationToken cancel)
    {
        var inside = await GitAsync(folder, cancel, "rev-parse", "--is-inside-work-tree") is { Exit: 0 };
        // A folder that its repository ignores, such as one for built pages, is deployed on purpose.
        if (inside && await GitAsync(folder, cancel, "check-ignore", "--quiet", ".") is not { Exit: 0 })
            return await ListAsync(folder, [], cancel);
        var empty = Directory.CreateTempSubdirectory("appoxy-").FullName;
        try
        {
            await GitAsync(empty, cancel, "init", "--quiet", "--bare");
            return await ListAsync(folder, ["--git-dir", empty, "--work-tree", "."], cancel);
        }
        finally
        {
            Directory.Delete(empty, recursive: true);
        }
    }

    private static async Task<List<string>> ListAsync(string folder, string[] where, CancellationToken cancel)
    {
        var (exit, output, error) = await GitAsync(folder, cancel, [.. where, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        if (exit != 0)
            throw Failure.Usage($"git can't list {folder}: {error.Trim()}");
        var files = new List<string>();
        foreach (var name in output.Split('\0', StringSplitOptions.RemoveEmptyEntries).Select(n => n.TrimEnd('/')))
        {
            var path = Path.Combine(folder, name);
            if (Directory.Exists(path) && new DirectoryInfo(path).LinkTarget is null)
                files.AddRange((await GitFilesAsync(path, cancel)).Select(inner => $"{name}/{inner}"));
            else if (Path.Exists(path) || new FileInfo(path).LinkTarget is not null)
                files.Add(name);
        }
        return files;
    }

    private static async Task<(int Exit, string Output, string Error)> GitAsync(string folder, CancellationToken cancel, params string[] arguments)
    {
        using var bounded = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bounded.CancelAfter(GitPatience);
        var start = new ProcessStartInfo("git", arguments)
        {
            WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true,
            StandardOutputEncoding = Encoding.UTF8,
        };
        using var git = new Process { StartInfo = start };
        try
        {
            git.Start();
        }
        catch (System.ComponentModel.Win32Exception)
        {
            throw Failure.Usage("the folder has rules for git (.gitignore or a repository), but there is no git here to read them: "
                + "install git, or add --no-gitignore");
        }
        git.StandardInput.Close();
        try
        {
            var (output, error) = (git.StandardOutput.ReadToEndAsync(bounded.Token), git.StandardError.ReadToEndAsync(bounded.Token));
            await git.WaitForExitAsync(bounded.Token);
            return (git.ExitCode, await output, await error);
        }
        catch (OperationCanceledException)
        {
            git.Kill(entireProcessTree: true);
            cancel.ThrowIfCancellationRequested();
            throw Failure.Usage($"git did not list {folder} within {Output.Span(GitPatience)}");
        }
    }

    /// <summary>Tells of each write how much it is in all.</summary>
    private sealed class CountingStream(Stream inner, Action<long> sent) : Stream
    {
        private long count;

        public override bool CanRead => false;
        public override bool CanSeek => false;
        public override bool CanWrite => true;
        public override long Length => throw new NotSupportedException();
        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override void Write(byte[] buffer, int offset, int length) => throw new NotSupportedException();

        public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            await inner.WriteAsync(buffer, cancellationToken);
            sent(count += buffer.Length);
        }

        public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
            WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        public override Task FlushAsync(CancellationToken cancellationToken) => inner.FlushAsync(cancellationToken);
        public override void Flush() => throw new NotSupportedException();
        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();
        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
