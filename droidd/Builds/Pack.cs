using System.ComponentModel;
using System.Globalization;
using System.Text.RegularExpressions;
using Appoxy.Nginx;
using CliWrap;

namespace Appoxy.Droidd.Builds;

/// <summary>Runs <c>pack</c>, the Cloud Native Buildpacks' command, and turns its faults into our own words.</summary>
internal sealed partial class Pack(DroiddSettings settings)
{
    /// <summary>How long pack may take to remove its containers once it is told to stop.</summary>
    private static readonly TimeSpan Goodbye = TimeSpan.FromSeconds(15);

    private const int KeptFaults = 5;
    private const int SigTerm = 15;

    /// <summary>Said where an image lacks the process type that serves visitors.</summary>
    public const string NoWeb = "there is no process type web: add a Procfile with a line web: and the command that starts the app";

    /// <summary>Runs it to its end, its output going to the log as it comes.</summary>
    /// <exception cref="BuildException">It is not there, took too long, or failed.</exception>
    public async Task RunAsync(IEnumerable<string> arguments, BuildLog log, CancellationToken cancel)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        timeout.CancelAfter(settings.BuildTime);
        using var kill = new CancellationTokenSource();
        var faults = new Queue<string>();
        var full = false;
        var output = new LogLines(line =>
        {
            full |= DockerFault.IsDiskFull(line);
            log.Output(line);
        });
        var errors = new LogLines(line =>
        {
            var fault = Fault().Match(line);
            full |= DockerFault.IsDiskFull(line);
            if (fault.Success)
                faults.Enqueue(line[fault.Length..].Trim());
            if (faults.Count > KeptFaults)
                faults.Dequeue();
            log.Output(line, fault.Success);
        });
        try
        {
            var running = Cli.Wrap(settings.Pack)
                .WithArguments(arguments)
                .WithValidation(CommandResultValidation.None)
                .WithEnvironmentVariables(env => env
                    .Set("DOCKER_HOST", settings.Docker)
                    .Set("PACK_HOME", Path.Combine(settings.DataDir, ".pack")))
                .WithStandardOutputPipe(PipeTarget.Create(output.ReadAsync))
                .WithStandardErrorPipe(PipeTarget.Create(errors.ReadAsync))
                .ExecuteAsync(kill.Token);
            // Not SIGINT, which a process started in the background may never get to see.
            await using var goodbye = timeout.Token.Register(() =>
            {
                kill.CancelAfter(Goodbye);
                _ = Posix.Kill(running.ProcessId, SigTerm);
            });
            var ran = await running;
            timeout.Token.ThrowIfCancellationRequested();
            if (ran.ExitCode != 0)
                throw full ? new BuildException(FailureReasons.DiskFull, DockerFault.DiskIsFull) : Failed([.. faults], ran.ExitCode);
        }
        catch (OperationCanceledException) when (cancel.IsCancellationRequested)
        {
            throw new OperationCanceledException(cancel);
        }
        catch (OperationCanceledException)
        {
            throw new BuildException(FailureReasons.Timeout, $"the build took longer than {settings.BuildTimeout}");
        }
        catch (Win32Exception)
        {
            throw new BuildException(FailureReasons.NoPack,
                $"this server can't build with buildpacks: it has no program {settings.Pack}; add a Dockerfile, or ask an admin to install pack");
        }
    }

    /// <summary>What pack's last <c>ERROR:</c> lines mean. The lifecycle, which does the work, tells the phase that failed by its exit code.</summary>
    internal static BuildException Failed(IReadOnlyList<string> faults, int exitCode)
    {
        var error = faults.LastOrDefault("");
        if (faults.Any(DockerFault.IsDiskFull))
            return new(FailureReasons.DiskFull, DockerFault.DiskIsFull);
        if (faults.Any(f => f.Contains("tried to set web to default but it doesn't exist", StringComparison.Ordinal)))
            return new(FailureReasons.NoBuilderFits, NoWeb);
        var code = StatusCode().Match(error) is { Success: true } match ? int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) : 0;
        var (reason, words) = code switch
        {
            11 => (FailureReasons.Builder, "the builder does not go together with this server's pack"),
            12 => (FailureReasons.Builder, "a buildpack does not go together with its builder"),
            20 => (FailureReasons.NoBuilderFits, "no buildpack fits: there is no Dockerfile, and none of the builder's buildpacks knows this app"),
            21 => (FailureReasons.NoBuilderFits, "no buildpack fits, and at least one failed at finding out"),
            >= 20 and < 30 => (FailureReasons.Builder, "looking for buildpacks that fit failed"),
            >= 30 and < 40 => (FailureReasons.Export, "reading the app's previous image failed"),
            >= 40 and < 50 => (FailureReasons.Export, "restoring what earlier builds kept failed"),
            51 => (FailureReasons.Build, "a buildpack's build failed"),
            >= 50 and < 60 => (FailureReasons.Build, "building failed"),
            >= 60 and < 70 => (FailureReasons.Export, "the build was done, but storing its image failed"),
            >= 90 and < 110 => (FailureReasons.Builder, "extending the builder's images failed"),
            137 => (FailureReasons.Build, "a step of the build was killed, most likely for its memory"),
            _ => (FailureReasons.Build, error.Length == 0 ? $"pack failed with exit code {exitCode}" : Sentence(error)),
        };
        return new(reason, code == 0 ? words : $"{words} (the lifecycle's code {code}); the log says more");
    }

    private static string Sentence(string error) =>
        error.StartsWith("failed to build: ", StringComparison.Ordinal) ? error["failed to build: ".Length..] : error;

    // Of pack, or of a phase of the lifecycle, by whose name pack tells it.
    [GeneratedRegex(@"\A(?:\[[a-z]+\] )?ERROR: ")]
    private static partial Regex Fault();

    [GeneratedRegex(@"failed with status code: ([0-9]{1,3})\b")]
    private static partial Regex StatusCode();
}
