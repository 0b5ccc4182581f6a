using System.Formats.Tar;
using System.IO.Enumeration;
using System.IO.Pipelines;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Builds;

/// <summary>Builds an image from a folder with a <c>Dockerfile</c>, telling the log each line as Docker says it.</summary>
internal sealed class DockerfileBuild(DockerClient docker, DroiddSettings settings)
{
    /// <summary>Builds <paramref name="folder"/> as <paramref name="tag"/>; the image's id.</summary>
    /// <exception cref="BuildException">A step failed, or it took too long.</exception>
    public async Task<string> BuildAsync(string folder, string tag, string uid, BuildLog log, CancellationToken cancel)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        timeout.CancelAfter(settings.BuildTime);
        var lines = new LineProgress(log);
        var pipe = new Pipe();
        var packing = PackAsync(folder, pipe.Writer, timeout.Token);
        try
        {
            var parameters = new ImageBuildParameters
            {
                Tags = [tag],
                Labels = new Dictionary<string, string> { [DroidLabels.Uid] = uid },
                NetworkMode = settings.BuildNetwork,
                Remove = true,
                ForceRemove = true,
            };
            await docker.Images.BuildImageFromDockerfileAsync(parameters, pipe.Reader.AsStream(), null, null, lines, timeout.Token);
            await packing;
            await lines.FinishAsync();
            if (lines.Error is { } error)
                throw new BuildException(error);
            return (await docker.Images.InspectImageAsync(tag, timeout.Token)).ID;
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new BuildException($"the build took longer than {settings.BuildTimeout}");
        }
        catch (DockerApiException e)
        {
            await lines.FinishAsync();
            throw new BuildException(e.Message.ReplaceLineEndings(" "));
        }
        finally
        {
            await pipe.Reader.CompleteAsync();
            await packing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private static async Task PackAsync(string folder, PipeWriter target, CancellationToken cancel)
    {
        Exception? fault = null;
        try
        {
            await using var tar = new TarWriter(target.AsStream(leaveOpen: true), TarEntryFormat.Pax);
            foreach (var path in Entries(folder))
                await tar.WriteEntryAsync(path, Path.GetRelativePath(folder, path), cancel);
        }
        catch (Exception e)
        {
            fault = e;
            throw;
        }
        finally
        {
            await target.CompleteAsync(fault);
        }
    }

    /// <summary>All below <paramref name="folder"/> but git's own; a link is packed as a link and never followed, or it could lead out of the folder.</summary>
    private static FileSystemEnumerable<string> Entries(string folder)
    {
        var git = Path.Combine(folder, ".git");
        return new(folder, (ref FileSystemEntry entry) => entry.ToFullPath(),
            new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0, IgnoreInaccessible = false })
        {
            ShouldIncludePredicate = (ref FileSystemEntry entry) => entry.ToFullPath() != git,
            ShouldRecursePredicate = (ref FileSystemEntry entry) =>
                (entry.Attributes & FileAttributes.ReparsePoint) == 0 && entry.ToFullPath() != git,
        };
    }

    /// <summary>Cuts Docker's stream of messages into log lines. Docker's client calls it in order, from one thread at a time.</summary>
    private sealed class LineProgress(BuildLog log) : IProgress<JSONMessage>
    {
        private string partial = "";
        private Task written = Task.CompletedTask;

        public string? Error { get; private set; }

        public void Report(JSONMessage message)
        {
            if (message.Error is { } error)
            {
                Error = (error.Message ?? "the build failed").ReplaceLineEndings(" ").Trim();
                return;
            }
            var text = partial + (message.Stream ?? (message.Status is null || message.Progress is not null ? null : message.Status + "\n"));
            var lines = text.Split('\n');
            partial = lines[^1];
            foreach (var line in lines[..^1])
                Queue(line);
        }

        public async Task FinishAsync()
        {
            if (partial.Length > 0)
                Queue(partial);
            partial = "";
            await written;
        }

        private void Queue(string line)
        {
            if (string.IsNullOrWhiteSpace(line))
                return;
            var before = written;
            written = Task.Run(async () =>
            {
                await before;
                await log.WriteAsync(line);
            });
        }
    }
}
