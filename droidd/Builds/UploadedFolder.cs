using System.Formats.Tar;
using System.IO.Compression;
using System.Security.Cryptography;

namespace Appoxy.Droidd.Builds;

/// <summary>
/// Folders that users upload, each a tar.gz named by its SHA-256. They lie in the droid's own folder for as long as a deployment
/// may have to be built from them, and nowhere else: routerd passes them through.
/// </summary>
internal sealed class UploadedFolder(DroiddSettings settings)
{
    /// <summary>How many uploads of a droid are kept that no deployment names.</summary>
    private const int Kept = 3;
    private const int MaxEntries = 200_000;

    /// <summary>Takes in an upload.</summary>
    /// <param name="folder">Where the droid's uploads lie.</param>
    /// <param name="source">The tar.gz.</param>
    /// <param name="needed">Uploads that are to be kept.</param>
    /// <param name="cancel">Ends it; what has come is removed.</param>
    /// <exception cref="Problem">413: it is too long.</exception>
    public async Task<Upload> TakeAsync(string folder, Stream source, IReadOnlyCollection<string?> needed, CancellationToken cancel)
    {
        Directory.CreateDirectory(folder);
        Prune(folder, needed, file => file.Delete());
        var part = Path.Combine(folder, Path.GetRandomFileName() + ".part");
        try
        {
            long length = 0;
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            await using (var file = new FileStream(part, new FileStreamOptions
            {
                Mode = FileMode.CreateNew, Access = FileAccess.Write, Options = FileOptions.Asynchronous, BufferSize = 0,
                UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
            }))
            {
                var buffer = new byte[64 << 10];
                while (await source.ReadAsync(buffer, cancel) is > 0 and var count)
                {
                    length += count;
                    if (length > settings.UploadBytes)
                        throw new Problem(413, $"The upload is longer than {settings.UploadLimit}, which is the most this server takes.");
                    hash.AppendData(buffer, 0, count);
                    await file.WriteAsync(buffer.AsMemory(0, count), cancel);
                }
            }
            var id = Convert.ToHexStringLower(hash.GetHashAndReset());
            File.Move(part, Find(folder, id), overwrite: true);
            return new Upload(id, length);
        }
        finally
        {
            File.Delete(part);
        }
    }

    /// <summary>Unpacks an upload into <paramref name="target"/>, which is made anew.</summary>
    /// <exception cref="BuildException">It is not here any more, is no tar.gz, is too large, or holds what leads out of its folder.</exception>
    public async Task UnpackAsync(string folder, string id, string target, CancellationToken cancel)
    {
        var path = Find(folder, id);
        if (!File.Exists(path))
            throw new BuildException(FailureReasons.Source, "the uploaded folder is not here any more; upload it again");
        File.SetLastWriteTimeUtc(path, DateTime.UtcNow);
        if (Directory.Exists(target))
            Directory.Delete(target, recursive: true);
        Directory.CreateDirectory(target);
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        timeout.CancelAfter(settings.FetchTime);
        try
        {
            await using var file = File.OpenRead(path);
            await using var zip = new GZipStream(file, CompressionMode.Decompress);
            await using var tar = new TarReader(new BoundedStream(zip, settings.SourceBytes, settings.SourceLimit));
            await UnpackAsync(tar, target, timeout.Token);
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new BuildException(FailureReasons.Timeout, $"unpacking the upload took longer than {settings.FetchTimeout}");
        }
        catch (Exception e) when (e is InvalidDataException or EndOfStreamException or FormatException or ArgumentException)
        {
            throw new BuildException(FailureReasons.Source, "the upload is no tar.gz, or a broken one");
        }
    }

    private static async Task UnpackAsync(TarReader tar, string target, CancellationToken cancel)
    {
        var links = new HashSet<string>(StringComparer.Ordinal);
        for (var count = 0; await tar.GetNextEntryAsync(copyData: false, cancel) is { } entry; count++)
        {
            if (count == MaxEntries)
                throw new BuildException(FailureReasons.SourceTooBig, $"the upload has more than {MaxEntries} files");
            if (entry.EntryType is TarEntryType.GlobalExtendedAttributes)
                continue;
            var name = Inside(entry.Name, links) ?? throw Refused(entry.Name, "leads out of the folder");
            var path = Path.Combine(target, name);
            if (name.Length == 0 || (entry.EntryType is TarEntryType.Directory && Directory.Exists(path)))
                continue;
            if (Path.Exists(path) || links.Contains(name))
                throw Refused(entry.Name, "is there twice");
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            switch (entry.EntryType)
            {
                case TarEntryType.Directory:
                    Directory.CreateDirectory(path);
                    break;
                case TarEntryType.RegularFile or TarEntryType.V7RegularFile or TarEntryType.ContiguousFile:
                    await WriteAsync(path, entry, cancel);
                    break;
                case TarEntryType.SymbolicLink when StaysInside(name, entry.LinkName):
                    File.CreateSymbolicLink(path, entry.LinkName);
                    links.Add(name);
                    break;
                case TarEntryType.SymbolicLink:
                    throw Refused(entry.Name, "is a link that leads out of the folder");
                default:
                    throw Refused(entry.Name, "is neither a file, a folder nor a symbolic link");
            }
        }
    }

    private static async Task WriteAsync(string path, TarEntry entry, CancellationToken cancel)
    {
        await using (var file = new FileStream(path, new FileStreamOptions
        {
            Mode = FileMode.CreateNew, Access = FileAccess.Write, Options = FileOptions.Asynchronous,
            // No setuid and the like, and always readable for the build.
            UnixCreateMode = (entry.Mode & (UnixFileMode)0b111_111_111) | UnixFileMode.UserRead | UnixFileMode.UserWrite,
        }))
        {
            if (entry.DataStream is { } data)
                await data.CopyToAsync(file, cancel);
        }
        File.SetLastWriteTimeUtc(path, entry.ModificationTime.UtcDateTime);
    }

    /// <summary>A name in the form <c>a/b</c>; null if it is absolute, climbs, or goes through a link that was unpacked before.</summary>
    internal static string? Inside(string name, IReadOnlySet<string> links)
    {
        if (name.Length is 0 or > 4096 || name[0] == '/' || name.Contains('\0', StringComparison.Ordinal))
            return null;
        var parts = name.Split('/').Where(p => p is not ("" or ".")).ToList();
        if (parts.Contains("..") || parts.Exists(p => p.Length > 255))
            return null;
        for (var depth = 1; depth < parts.Count; depth++)
        {
            if (links.Contains(string.Join('/', parts.Take(depth))))
                return null;
        }
        return string.Join('/', parts);
    }

    /// <summary>
    /// Whether a link leads to somewhere within the folder. Only at its begin may it climb: behind another name, which can be a link
    /// itself, <c>..</c> may lead to anywhere.
    /// </summary>
    internal static bool StaysInside(string name, string link)
    {
        if (link.Length is 0 or > 4096 || link[0] == '/' || link.Contains('\0', StringComparison.Ordinal))
            return false;
        var parts = link.Split('/').Where(p => p is not ("" or ".")).ToList();
        var climbs = parts.TakeWhile(p => p == "..").Count();
        return climbs <= name.Count(c => c == '/') && !parts.Skip(climbs).Contains("..");
    }

    private static BuildException Refused(string name, string why) =>
        new(FailureReasons.Source, $"the upload can't be unpacked: {new string([.. name.Take(100).Where(c => !char.IsControl(c))])} {why}");

    private static string Find(string folder, string id) => Path.Combine(folder, id + ".tar.gz");

    /// <summary>Removes uploads that no deployment names, but for the newest, and what is left of those that were cut off.</summary>
    /// <param name="folder">Where the droid's uploads lie.</param>
    /// <param name="needed">Uploads that are to be kept.</param>
    /// <param name="remove">Removes one.</param>
    public void Prune(string folder, IReadOnlyCollection<string?> needed, Action<FileInfo> remove)
    {
        if (!Directory.Exists(folder))
            return;
        var files = new DirectoryInfo(folder).EnumerateFiles().ToList();
        var old = files.Where(f => f.Name.EndsWith(".tar.gz", StringComparison.Ordinal) && !needed.Contains(f.Name[..^".tar.gz".Length]))
            .OrderByDescending(f => f.LastWriteTimeUtc).Skip(Kept);
        var broken = files.Where(f => f.Name.EndsWith(".part", StringComparison.Ordinal) && DateTime.UtcNow - f.LastWriteTimeUtc > settings.CollectAfterTime);
        foreach (var file in old.Concat(broken).ToList())
            remove(file);
    }

    /// <summary>Ends a stream that unpacks to more than it may.</summary>
    private sealed class BoundedStream(Stream inner, long limit, string shown) : Stream
    {
        private long read;

        public override bool CanRead => true;
        public override bool CanSeek => false;
        public override bool CanWrite => false;
        public override long Length => throw new NotSupportedException();
        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override int Read(byte[] buffer, int offset, int count) => Count(inner.Read(buffer, offset, count));

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            Count(await inner.ReadAsync(buffer, cancellationToken));

        private int Count(int count) => (read += count) <= limit ? count
            : throw new BuildException(FailureReasons.SourceTooBig, $"the upload is larger than {shown} when unpacked");

        public override void Flush() => throw new NotSupportedException();
        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
        public override void SetLength(long value) => throw new NotSupportedException();
        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
