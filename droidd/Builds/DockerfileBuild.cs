using System.Formats.Tar;
using System.IO.Pipelines;
using System.Text.RegularExpressions;
using Appoxy.Droidd.Garbage;
using Appoxy.Droidd.Images;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Builds;

/// <summary>Builds an image from a folder with a <c>Dockerfile</c>, telling the log each line as Docker says it.</summary>
internal sealed partial class DockerfileBuild(DockerClient docker, DroidImages images, BroughtImages brought, DroiddSettings settings)
{
    private const long CpuPeriod = 100_000;

    /// <summary>Against an app's 1024: where processors are short, apps go before builds.</summary>
    public const long CpuShares = 256;

    /// <summary>Builds <paramref name="folder"/> as <paramref name="tag"/>; the image's id.</summary>
    /// <exception cref="BuildException">A step failed, or it took too long.</exception>
    public async Task<string> BuildAsync(string folder, string tag, string uid, BuildLog log, CancellationToken cancel)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        timeout.CancelAfter(settings.BuildTime);
        var lines = new LineProgress(log, brought);
        var ignored = IgnoredBy(folder);
        var (bases, pulled) = (await BasesAsync(folder, cancel), new List<string>());
        foreach (var image in bases)
        {
            if (await images.FindAsync(image, cancel) is null)
                pulled.Add(image);
        }
        var pipe = new Pipe();
        var packing = PackAsync(folder, ignored, pipe.Writer, timeout.Token);
        try
        {
            var parameters = new ImageBuildParameters
            {
                Tags = [tag],
                Labels = new Dictionary<string, string> { [DroidLabels.Uid] = uid, [DroidLabels.Owner] = settings.DataDir },
                NetworkMode = settings.BuildNetwork,
                Memory = settings.BuildMemoryBytes,
                MemorySwap = settings.BuildMemoryBytes,
                CPUShares = CpuShares,
                CPUPeriod = settings.BuildCpus > 0 ? CpuPeriod : 0,
                CPUQuota = (long)(settings.BuildCpus * CpuPeriod),
                Remove = true,
                ForceRemove = true,
            };
            await docker.Images.BuildImageFromDockerfileAsync(parameters, pipe.Reader.AsStream(), null, null, lines, timeout.Token);
            await packing;
            lines.Finish();
            if (lines.Error is { } error)
                throw Failed(error, lines.SawFullDisk);
            var id = (await docker.Images.InspectImageAsync(tag, timeout.Token)).ID;
            // They are below an image with a name now, and go with it.
            brought.Forget(lines.Steps);
            return id;
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new BuildException(FailureReasons.Timeout, $"the build took longer than {settings.BuildTimeout}");
        }
        catch (DockerApiException e)
        {
            lines.Finish();
            throw Failed(DockerFault.Words(e), lines.SawFullDisk);
        }
        finally
        {
            await pipe.Reader.CompleteAsync();
            await packing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            foreach (var image in pulled)
                brought.Add(image);
            brought.Use(bases);
        }
    }

    /// <summary>The images that a Dockerfile says it builds on, but for those whose names its arguments make.</summary>
    private static async Task<IReadOnlyList<string>> BasesAsync(string folder, CancellationToken cancel)
    {
        var file = new FileInfo(Path.Combine(folder, "Dockerfile"));
        return file is not { Exists: true, LinkTarget: null, Length: < 1 << 20 } ? []
            : [.. From().Matches(await File.ReadAllTextAsync(file.FullName, cancel)).Select(m => m.Groups[1].Value).Where(SourceRules.IsImage).Distinct().Take(20)];
    }

    [GeneratedRegex(@"^[ \t]*FROM[ \t]+(?:--platform=\S+[ \t]+)?([^\s$]+)(?=\s|$)", RegexOptions.Multiline | RegexOptions.IgnoreCase, matchTimeoutMilliseconds: 1000)]
    private static partial Regex From();

    // A step's own words are in the log alone: Docker tells no more than its exit code.
    private BuildException Failed(string error, bool full) => DockerFault.IsDiskFull(error) || full ? new(FailureReasons.DiskFull, $"{DockerFault.DiskIsFull}: {error}")
        // 128 + SIGKILL: nobody else sends that to a step of a build.
        : error.EndsWith("returned a non-zero code: 137", StringComparison.Ordinal) && settings.BuildMemoryBytes > 0
            ? new(FailureReasons.Build, $"{error}: it most likely needed more than the {settings.BuildMemory} of memory that a build has")
            : new(FailureReasons.Build, error);

    private static DockerIgnore IgnoredBy(string folder)
    {
        try
        {
            return DockerIgnore.Of(folder);
        }
        catch (FormatException e)
        {
            throw new BuildException(FailureReasons.Source, e.Message);
        }
    }

    private static async Task PackAsync(string folder, DockerIgnore ignored, PipeWriter target, CancellationToken cancel)
    {
        Exception? fault = null;
        try
        {
            await using var tar = new TarWriter(target.AsStream(leaveOpen: true), TarEntryFormat.Pax);
            foreach (var path in Entries(folder, "", ignored))
                await tar.WriteEntryAsync(Path.Combine(folder, path), path, cancel);
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

    /// <summary>
    /// All below a folder but git's own and what is ignored. A link is packed as a link and never followed, or it could lead out of
    /// the folder.
    /// </summary>
    internal static IEnumerable<string> Entries(string top, string below, DockerIgnore ignored)
    {
        foreach (var entry in new DirectoryInfo(Path.Combine(top, below)).EnumerateFileSystemInfos().OrderBy(e => e.Name, StringComparer.Ordinal))
        {
            var path = below.Length == 0 ? entry.Name : $"{below}/{entry.Name}";
            if (path == ".git")
                continue;
            var excluded = ignored.Excludes(path);
            if (!excluded)
                yield return path;
            if (entry is not DirectoryInfo { LinkTarget: null } || (excluded && !ignored.HasExceptions))
                continue;
            foreach (var inner in Entries(top, path, ignored))
                yield return inner;
        }
    }

    /// <summary>Brings Docker's stream of messages to the log. Docker's client waits for each call.</summary>
    private sealed class LineProgress : IProgress<JSONMessage>
    {
        private const int MostSteps = 200;
        private const string Step = " ---> ";
        private readonly LogLines lines;

        public LineProgress(BuildLog log, BroughtImages brought) => lines = new(line =>
        {
            log.Output(line);
            SawFullDisk |= DockerFault.IsDiskFull(line);
            // Noted at once: neither a fault nor a kill may leave layers that nobody knows of.
            if (line.StartsWith(Step, StringComparison.Ordinal) && line[Step.Length..].Trim() is var id && UnusedImages.IsId(id) && Steps.Count < MostSteps)
            {
                Steps.Add(id);
                brought.Add(id);
            }
        });

        public string? Error { get; private set; }

        public bool SawFullDisk { get; private set; }

        /// <summary>The images that the steps left, by their short ids.</summary>
        public List<string> Steps { get; } = [];

        public void Report(JSONMessage message)
        {
            if (message.Error is { } error)
                Error = (error.Message ?? "the build failed").ReplaceLineEndings(" ").Trim();
            else if (message.Stream is { } text)
                lines.Add(text);
            else if (message is { Status: { } status, Progress: null })
                lines.Add(status + "\n");
        }

        public void Finish() => lines.Finish();
    }
}
