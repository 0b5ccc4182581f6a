using System.IO.Compression;
using Appoxy.Droidd.Droids;
using CliWrap;
using CliWrap.Buffered;
using CliWrap.Exceptions;

namespace Appoxy.Droidd.Volumes;

/// <summary>
/// Whole copies of a volume, out and in, as tar.gz. The app is frozen while one is read, so that it is of one moment, and stopped for
/// the moment in which another takes its place; visitors wait for that.
/// </summary>
internal sealed class VolumeCopy(DroidServer server, DroidContainers containers, DroidVolumes volumes, DroiddSettings settings)
{
    private static readonly TimeSpan Limit = TimeSpan.FromHours(1);

    /// <summary>Writes a volume to <paramref name="target"/> once it was copied beside; <paramref name="begin"/> comes first.</summary>
    /// <exception cref="Problem">404: there is no such volume. 503: the disk has no room for the copy.</exception>
    public async Task ExportAsync(string uid, string id, Action begin, Stream target, CancellationToken cancel)
    {
        var held = (await volumes.ListAsync(uid, cancel)).FirstOrDefault(v => v.Id == id);
        if (held is null || await volumes.FolderAsync(id, cancel) is not { } folder)
            throw new Problem(404, "Nothing is in the volume yet: it is made when the app is first started with it.");
        if (new DriveInfo(settings.DataDir).AvailableFreeSpace - settings.DiskReserveBytes < held.Bytes)
            throw new Problem(503, "The server's disk has no room for a copy of the volume.");
        var path = Path.Combine(settings.DataDir, $"export-{Guid.NewGuid():N}");
        await using var copy = new FileStream(path, new FileStreamOptions
        {
            Mode = FileMode.CreateNew, Access = FileAccess.ReadWrite, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
            Options = FileOptions.Asynchronous,
        });
        // Gone with the last who has it open, whatever ends droidd.
        File.Delete(path);
        await WithAllAsync(uid, freeze: true, () => TarAsync(["-C", folder, "--numeric-owner", "--sparse", "-cf", "-", "."], PipeSource.Null,
            PipeTarget.ToStream(copy), cancel), cancel);
        copy.Position = 0;
        begin();
        await using var packed = new GZipStream(target, CompressionLevel.Fastest, leaveOpen: true);
        await copy.CopyToAsync(packed, cancel);
    }

    /// <summary>Puts what a tar.gz holds in the place of all that the volume holds.</summary>
    /// <exception cref="Problem">400: it is no tar.gz. 413: it holds more than a volume may. Nothing has changed then.</exception>
    public async Task ImportAsync(string uid, string id, Stream source, CancellationToken cancel)
    {
        var folder = await volumes.EnsureAsync(uid, id, cancel);
        var place = Path.GetDirectoryName(folder)!;
        var (next, last) = (Path.Combine(place, "_import"), Path.Combine(place, "_replaced"));
        await RemoveAsync(next, last);
        // Of its own, so that a link that the app has laid leads nowhere; and tar itself follows none that the archive brings.
        Directory.CreateDirectory(next);
        File.SetUnixFileMode(next, File.GetUnixFileMode(folder));
        try
        {
            await UnpackAsync(source, next, cancel);
            await WithAllAsync(uid, freeze: false, () =>
            {
                Directory.Move(folder, last);
                Directory.Move(next, folder);
                return Task.CompletedTask;
            }, cancel);
        }
        finally
        {
            await RemoveAsync(next, last);
        }
    }

    private async Task UnpackAsync(Stream source, string next, CancellationToken cancel)
    {
        try
        {
            await using var plain = new GZipStream(source, CompressionMode.Decompress);
            await TarAsync(["-C", next, "--numeric-owner", "--same-owner", "-xpf", "-"],
                PipeSource.Create((target, stop) => CopyAsync(plain, target, stop)), PipeTarget.Null, cancel);
        }
        catch (Exception e) when (e is InvalidDataException or CommandExecutionException)
        {
            throw new Problem(400, "That is not a whole tar.gz.");
        }
        // A container could not open them, but nothing else should find them either.
        await Cli.Wrap("find").WithArguments([next, "-xdev", "(", "-type", "b", "-o", "-type", "c", ")", "-delete"]).ExecuteAsync(cancel);
    }

    private async Task CopyAsync(Stream source, Stream target, CancellationToken cancel)
    {
        var (buffer, left) = (new byte[128 << 10], settings.VolumeBytes > 0 ? settings.VolumeBytes : long.MaxValue);
        while (await source.ReadAsync(buffer, cancel) is > 0 and var read)
        {
            if ((left -= read) < 0)
                throw new Problem(413, $"A volume may hold {settings.VolumeLimit}, and this is more.");
            await target.WriteAsync(buffer.AsMemory(0, read), cancel);
        }
    }

    /// <summary>Does something while no container of an app writes.</summary>
    private async Task WithAllAsync(string uid, bool freeze, Func<Task> work, CancellationToken cancel)
    {
        async Task OthersAsync()
        {
            var live = server.Find(uid)?.Live?.Id;
            var others = (await containers.ListAsync(cancel)).Where(c => c.Spec.Uid == uid && c.Id != live && c.State == "running").ToList();
            var paused = new List<string>();
            try
            {
                foreach (var other in others)
                {
                    await containers.PauseAsync(other.Id, cancel);
                    paused.Add(other.Id);
                }
                await work();
            }
            finally
            {
                foreach (var other in paused)
                    await containers.UnpauseAsync(other, CancellationToken.None);
            }
            foreach (var other in freeze ? [] : paused)
                await containers.RestartAsync(other, CancellationToken.None);
        }

        if (server.Find(uid) is { } droid)
            await droid.AtRestAsync(freeze, OthersAsync, cancel);
        else
            await OthersAsync();
    }

    private static async Task TarAsync(string[] arguments, PipeSource input, PipeTarget output, CancellationToken cancel)
    {
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(Limit);
        await Cli.Wrap("tar").WithArguments(arguments).WithStandardInputPipe(input).WithStandardOutputPipe(output).ExecuteAsync(bound.Token);
    }

    /// <summary>Deletes folders without following a link.</summary>
    private static async Task RemoveAsync(params string[] folders)
    {
        using var bound = new CancellationTokenSource(TimeSpan.FromMinutes(10));
        await Cli.Wrap("rm").WithArguments(["-rf", "--one-file-system", "--", .. folders]).ExecuteBufferedAsync(bound.Token);
    }
}
