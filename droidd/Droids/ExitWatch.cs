using System.Globalization;
using System.Threading.Channels;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Droids;

/// <summary>
/// Hears from Docker at once which process has exited and why, so that no visitor is sent to it, and its owner is told. What it misses
/// while Docker is away, <see cref="DroidServer"/> sees at its next look. So it is with memory: the container's own state tells of it
/// only until Docker has started it again, and never where the app outlives the process that the kernel ended.
/// </summary>
internal sealed partial class ExitWatch(DockerClient docker, DroidServer server, ILogger<ExitWatch> log, TimeProvider time) : BackgroundService
{
    private static readonly TimeSpan RetryAfter = TimeSpan.FromSeconds(2);

    /// <summary>How long before a container's end the kernel may have said that it was short of memory.</summary>
    private static readonly TimeSpan OutOfMemoryWindow = TimeSpan.FromSeconds(5);

    private readonly Dictionary<string, long> outOfMemory = [];

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                await server.ReadyAsync(stoppingToken);
                await FollowAsync(stoppingToken);
            }
            catch (Exception e) when (!stoppingToken.IsCancellationRequested
                && e is DockerApiException or HttpRequestException or TimeoutException or IOException or OperationCanceledException)
            {
                LogLost(log, e.Message);
            }
            await Task.Delay(RetryAfter, time, stoppingToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task FollowAsync(CancellationToken cancel)
    {
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        var heard = Channel.CreateBounded<Message>(1000);
        var events = docker.System.MonitorEventsAsync(new ContainerEventsParameters
        {
            Filters = new Dictionary<string, IDictionary<string, bool>>
            {
                ["type"] = new Dictionary<string, bool> { ["container"] = true },
                ["event"] = new Dictionary<string, bool> { ["die"] = true, ["oom"] = true },
                ["label"] = new Dictionary<string, bool> { [DroidLabels.Spec] = true },
            },
        }, new Messages(heard.Writer), both.Token);
        _ = events.ContinueWith(_ => heard.Writer.TryComplete(), TaskScheduler.Default);
        await foreach (var message in heard.Reader.ReadAllAsync(cancel))
            Take(message, cancel);
        await events;
    }

    private void Take(Message message, CancellationToken cancel)
    {
        if (message.Actor is not { ID: { } id, Attributes: { } about } || !about.TryGetValue(DroidLabels.Uid, out var uid)
            || server.Find(uid) is not { } droid)
            return;
        if (message.Action == "oom")
        {
            outOfMemory[id] = time.GetTimestamp();
            droid.NoteOutOfMemory();
            return;
        }
        var shortOfMemory = outOfMemory.Remove(id, out var at) && time.GetElapsedTime(at) < OutOfMemoryWindow;
        foreach (var (old, _) in outOfMemory.Where(o => time.GetElapsedTime(o.Value) >= OutOfMemoryWindow).ToList())
            outOfMemory.Remove(old);
        var code = about.TryGetValue("exitCode", out var text) && int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var c) ? c : 0;
        if (!shortOfMemory && KernelLog.SaysOutOfMemory(id, code))
        {
            shortOfMemory = true;
            droid.NoteOutOfMemory();
        }
        _ = ExitedAsync(droid, id, code, shortOfMemory, cancel);
    }

    /// <summary>Not waited for: the droid may be in the midst of a start, and the others must not wait for that.</summary>
    private async Task ExitedAsync(Droid droid, string id, int code, bool outOfMemory, CancellationToken cancel)
    {
        try
        {
            await droid.ExitedAsync(id, code, outOfMemory, cancel);
        }
        catch (Exception e) when (e is DockerApiException or HttpRequestException or TimeoutException or IOException or OperationCanceledException
            or ObjectDisposedException)
        {
            if (!cancel.IsCancellationRequested)
                LogFault(log, droid.Uid, e.Message);
        }
    }

    private sealed class Messages(ChannelWriter<Message> target) : IProgress<Message>
    {
        public void Report(Message value) => target.TryWrite(value);
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "Docker tells of no exits for now: {Fault}")]
    private static partial void LogLost(ILogger log, string fault);

    [LoggerMessage(Level = LogLevel.Warning, Message = "An exit of droid {Uid} is left to the next look: {Fault}")]
    private static partial void LogFault(ILogger log, string uid, string fault);
}
