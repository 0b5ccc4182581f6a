using System.Formats.Tar;
using System.IO.Enumeration;
using System.IO.Pipelines;
using System.Text;
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
            lines.Finish();
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
            lines.Finish();
            throw new BuildException(DockerFault.Words(e));
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

    /// <summary>Cuts Docker's stream of messages into log lines; a line without an end is cut too. Docker's client waits for each call.</summary>
    private sealed class LineProgress(BuildLog log) : IProgress<JSONMessage>
    {
        private const int LongestLine = 16 << 10;
        private readonly StringBuilder line = new();

        public string? Error { get; private set; }

        public void Report(JSONMessage message)
        {
            if (message.Error is { } error)
                Error = (error.Message ?? "the build failed").ReplaceLineEndings(" ").Trim();
            else if (message.Stream is { } text)
                Take(text);
            else if (message is { Status: { } status, Progress: null })
                Take(status + "\n");
        }

        public void Finish()
        {
            if (!string.IsNullOrWhiteSpace(line.ToString()))
                log.Output(line.ToString());
            line.Clear();
        }

        private void Take(string text)
        {
            foreach (var c in text)
            {
                if (c != '\n')
                    line.Append(c);
                if (c == '\n' || line.Length >= LongestLine)
                    Finish();
            }
        }
    }
}
