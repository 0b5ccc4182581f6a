using Appoxy.Droidd.Droids;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Isolation;

/// <summary>
/// Hears from Docker that the kernel has ended a process of a droid for its memory limit. The container's own state tells it only
/// until Docker has started it again, a tenth of a second later, and never where the app outlives the process.
/// </summary>
internal sealed partial class MemoryWatch(DockerClient docker, DroidServer server, ILogger<MemoryWatch> log, TimeProvider time) : BackgroundService
{
    private static readonly TimeSpan RetryAfter = TimeSpan.FromSeconds(2);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                await docker.System.MonitorEventsAsync(new ContainerEventsParameters
                {
                    Filters = new Dictionary<string, IDictionary<string, bool>>
                    {
                        ["type"] = new Dictionary<string, bool> { ["container"] = true },
                        ["event"] = new Dictionary<string, bool> { ["oom"] = true, ["kill"] = true, ["die"] = true },
                        ["label"] = new Dictionary<string, bool> { [DroidLabels.Uid] = true },
                    },
                }, new Heard(server), stoppingToken);
            }
            catch (Exception e) when (!stoppingToken.IsCancellationRequested
                && e is DockerApiException or HttpRequestException or TimeoutException or IOException or OperationCanceledException)
            {
                LogLost(log, e.Message);
            }
            await Task.Delay(RetryAfter, time, stoppingToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>
    /// containerd does not hear of it on every machine; but who ends with 128 + SIGKILL, and was sent no signal through Docker, was most
    /// likely ended by the kernel.
    /// </summary>
    private sealed class Heard(DroidServer server) : IProgress<Message>
    {
        private readonly HashSet<string> signalled = [];

        public void Report(Message value)
        {
            var id = value.Actor?.ID ?? "";
            if (value.Action == "kill")
            {
                signalled.Add(id);
                return;
            }
            var asked = value.Action == "die" && signalled.Remove(id);
            if (value.Action == "oom" || (!asked && value.Actor?.Attributes?.TryGetValue("exitCode", out var code) == true && code == "137"))
                server.Droids.FirstOrDefault(d => d.Processes.Any(p => p.Container.Id == id && p.Container.Spec.Limits.MemoryBytes > 0))?.NoteOutOfMemory();
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Docker's events are not heard for a moment: {Fault}")]
    private static partial void LogLost(ILogger log, string fault);
}
