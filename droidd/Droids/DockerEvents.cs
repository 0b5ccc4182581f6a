using System.Collections.Concurrent;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Droids;

/// <summary>What was touched in Docker since the last look.</summary>
/// <param name="Containers">The ids of those that Docker told of.</param>
/// <param name="All">Whether any may have been, since Docker could not be listened to for a while.</param>
internal sealed record Touched(IReadOnlyCollection<string> Containers, bool All);

/// <summary>Listens to what Docker does, so that nobody has to list hundreds of sleeping containers every other second.</summary>
internal sealed partial class DockerEvents(DockerClient docker, ILogger<DockerEvents> log, TimeProvider time) : IDisposable
{
    private static readonly TimeSpan Retry = TimeSpan.FromSeconds(1);

    // What one act does comes as several events, and a droid that was just woken has a visitor who goes first.
    private static readonly TimeSpan Settle = TimeSpan.FromMilliseconds(500);

    // What a process does, and what somebody may do by hand to its container.
    private static readonly string[] Actions =
        ["die", "start", "pause", "unpause", "destroy", "create", "rename", "update", "connect", "disconnect"];

    private readonly ConcurrentDictionary<string, bool> touched = new();
    private readonly SemaphoreSlim told = new(0, 1);
    private volatile bool all;

    /// <summary>Listens until cancelled, also to a Docker that was away meanwhile.</summary>
    public async Task FollowAsync(CancellationToken cancel)
    {
        await Task.Yield();
        while (!cancel.IsCancellationRequested)
        {
            try
            {
                all = true;
                Tell();
                await docker.System.MonitorEventsAsync(new()
                {
                    Filters = new Dictionary<string, IDictionary<string, bool>>
                    {
                        ["type"] = new Dictionary<string, bool> { ["container"] = true, ["network"] = true },
                        ["event"] = Actions.ToDictionary(a => a, _ => true),
                    },
                }, new Listener(this), cancel);
            }
            catch (Exception e) when (!cancel.IsCancellationRequested)
            {
                LogAway(log, e.Message);
            }
            await Task.Delay(Retry, time, cancel).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>Waits until something was touched, or for so long.</summary>
    public async Task<Touched> NextAsync(TimeSpan wait, CancellationToken cancel)
    {
        if (await told.WaitAsync(wait, cancel))
            await Task.Delay(Settle, time, cancel);
        var whole = all;
        all = false;
        string[] ids = [.. touched.Keys];
        foreach (var id in ids)
            touched.TryRemove(id, out _);
        return new Touched(ids, whole);
    }

    private void Take(Message message)
    {
        if (message.Type == "network" && message.Action is "connect" or "disconnect")
        {
            // Of a network that is removed the same is told without a container.
            if (message.Actor?.Attributes?.TryGetValue("container", out var container) != true)
                return;
            touched[container!] = true;
        }
        else if (message.Type == "network")
            all = true;
        else if (message.Actor?.ID is { } id && message.Actor.Attributes?.ContainsKey(DroidLabels.Spec) == true)
            touched[id] = true;
        else
            return;
        Tell();
    }

    private void Tell()
    {
        try
        {
            told.Release();
        }
        catch (SemaphoreFullException)
        {
            // Told already.
        }
    }

    public void Dispose() => told.Dispose();

    // Not Progress<T>, which has each message wait for a thread.
    private sealed class Listener(DockerEvents events) : IProgress<Message>
    {
        public void Report(Message value) => events.Take(value);
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Docker's events ended, and are listened to anew: {Fault}")]
    private static partial void LogAway(ILogger log, string fault);
}
