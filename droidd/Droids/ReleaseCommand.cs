using System.Text;
using Appoxy.Droidd.Builds;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Droids;

/// <summary>
/// Runs the process type <c>release</c> of a new image, as for a database's migrations, or a script of <c>app.json</c>: once for a
/// deployment, in a container of its own with the app's environment and limits.
/// </summary>
internal sealed class ReleaseCommand(DockerClient docker, DroidContainers containers, DroiddSettings settings)
{
    /// <summary>Runs it to its end; what it prints goes to the deployment's log.</summary>
    /// <param name="wanted">Its container.</param>
    /// <param name="name">What it is called.</param>
    /// <param name="log">The deployment's.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="BuildException">It failed or took too long.</exception>
    public async Task RunAsync(NewContainer wanted, string name, BuildLog log, CancellationToken cancel)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        timeout.CancelAfter(settings.ReleaseTime);
        var made = await containers.CreateAsync(wanted, wanted.Spec.Uid + ".release", timeout.Token);
        try
        {
            await containers.StartNewAsync(made);
            await CopyOutputAsync(made.Id, log, timeout.Token);
            var code = (await docker.Containers.WaitContainerAsync(made.Id, timeout.Token)).StatusCode;
            if (code != 0)
                throw Failed(name, (await containers.InspectAsync(made.Id, timeout.Token)).OutOfMemory ? "ran out of memory" : $"exited with code {code}");
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw Failed(name, $"took longer than {settings.ReleaseTimeout}");
        }
        finally
        {
            await containers.RemoveAsync(made.Id, CancellationToken.None);
        }
    }

    private static BuildException Failed(string name, string why) => new(FailureReasons.Release, $"{name} {why}");

    private async Task CopyOutputAsync(string id, BuildLog log, CancellationToken cancel)
    {
        using var stream = await docker.Containers.GetContainerLogsAsync(id,
            new ContainerLogsParameters { ShowStdout = true, ShowStderr = true, Follow = true }, cancel);
        var buffer = new byte[16 << 10];
        var text = new char[16 << 10];
        var lines = new Dictionary<MultiplexedStream.TargetStream, (Decoder Decoder, LogLines Lines)>();
        while (await stream.ReadOutputAsync(buffer, 0, buffer.Length, cancel) is { EOF: false } read)
        {
            if (!lines.TryGetValue(read.Target, out var target))
                lines[read.Target] = target = (Encoding.UTF8.GetDecoder(), new LogLines(line => log.Output("       " + line)));
            var count = target.Decoder.GetChars(buffer, 0, read.Count, text, 0);
            target.Lines.Add(text.AsSpan(0, count));
        }
        foreach (var (_, target) in lines.Values)
            target.Finish();
    }
}
