using System.Security.Cryptography;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Servers;
using Npgsql;

namespace Appoxy.Routerd.Deployments;

/// <summary>
/// Copies of the uploads that live deployments were built of: when a droid-server is lost, they are all that is left of such an app. A
/// routerd on another machine has those that came by it.
/// </summary>
internal sealed class UploadStore(RouterdSettings settings, NpgsqlDataSource db, ILogger<UploadStore> log) : Rounds(TimeSpan.FromHours(1), log)
{
    /// <summary>The newest live deployments of an app whose uploads are kept.</summary>
    private const int Kept = 2;
    private static readonly TimeSpan Unused = TimeSpan.FromHours(1);

    /// <summary>Passes an upload on to an app's droid-server as it comes, and keeps a copy.</summary>
    public async Task<Upload> PassAsync(string uid, Stream source, DroidServer server, CancellationToken cancel)
    {
        var folder = FolderOf(uid);
        Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        var part = Path.Combine(folder, Path.GetRandomFileName() + ".part");
        try
        {
            Upload upload;
            await using (var file = new FileStream(part, new FileStreamOptions
            {
                Mode = FileMode.CreateNew, Access = FileAccess.Write, Options = FileOptions.Asynchronous,
                UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
            }))
            {
                using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
                upload = await server.UploadAsync(uid, new CopiedStream(source, file, hash), cancel);
                // The server may have said so before all had come.
                if (Convert.ToHexStringLower(hash.GetHashAndReset()) != upload.Id)
                    return upload;
            }
            File.Move(part, FileOf(uid, upload.Id), overwrite: true);
            return upload;
        }
        finally
        {
            File.Delete(part);
        }
    }

    /// <summary>Has a server have the upload that a deployment is built of.</summary>
    /// <returns>False if it was built of one that is not here.</returns>
    public async Task<bool> HandOutAsync(string uid, int deployment, DroidServer server, CancellationToken cancel)
    {
        var upload = await db.FirstAsync<string>(
            "select source ->> 'upload' from deployments where app_uid = @uid and number = @deployment", new { uid, deployment }, cancel);
        if (upload is null)
            return true;
        if (!SourceRules.IsUpload(upload) || !File.Exists(FileOf(uid, upload)))
            return false;
        await using var file = File.OpenRead(FileOf(uid, upload));
        return (await server.UploadAsync(uid, file, cancel)).Id == upload;
    }

    /// <summary>Removes what no live deployment was built of.</summary>
    protected override async Task RoundAsync(CancellationToken cancel)
    {
        if (!Directory.Exists(settings.UploadDir))
            return;
        foreach (var folder in Directory.EnumerateDirectories(settings.UploadDir).Where(f => Names.IsUid(Path.GetFileName(f))))
        {
            var needed = (await db.ListAsync<string>("""
                (select source ->> 'upload' from deployments where app_uid = @uid and state = 'live' order by number desc limit @Kept)
                union select source ->> 'upload' from deployments where app_uid = @uid and finished_at is null
                """, new { uid = Path.GetFileName(folder), Kept }, cancel)).ToHashSet();
            foreach (var file in new DirectoryInfo(folder).EnumerateFiles()
                .Where(f => !needed.Contains(Path.GetFileNameWithoutExtension(f.Name)) && f.LastWriteTimeUtc < DateTime.UtcNow - Unused))
                file.Delete();
            if (!Directory.EnumerateFileSystemEntries(folder).Any())
                Directory.Delete(folder);
        }
    }

    private string FolderOf(string uid) => Path.Combine(settings.UploadDir, uid);

    private string FileOf(string uid, string upload) => Path.Combine(FolderOf(uid), upload + ".tgz");

    /// <summary>A body that passes through, with a copy of it to a file.</summary>
    private sealed class CopiedStream(Stream source, Stream copy, IncrementalHash hash) : OneWayStream
    {
        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            var read = await source.ReadAsync(buffer, cancellationToken);
            hash.AppendData(buffer.Span[..read]);
            await copy.WriteAsync(buffer[..read], cancellationToken);
            return read;
        }

        public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
            ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        public override bool CanRead => true;
    }
}
