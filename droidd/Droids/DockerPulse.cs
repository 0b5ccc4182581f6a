using Docker.DotNet;

namespace Appoxy.Droidd.Droids;

/// <summary>
/// Whether Docker answers. One that hangs takes connections and says nothing, and its own calls may take minutes by right; so who waits
/// for one of those goes by a short call beside it.
/// </summary>
internal sealed partial class DockerPulse(DockerClient docker, ILogger<DockerPulse> log, TimeProvider time)
{
    public static readonly TimeSpan Limit = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan Fresh = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(2);

    /// <summary>For how long visitors wait for a Docker that may come back.</summary>
    public static readonly TimeSpan VisitorsPatience = TimeSpan.FromSeconds(20);

    private readonly Lock askLock = new();
    private Task<bool>? asking;
    private long askedAt;
    private long? missedAt;

    /// <summary>Whether Docker did not answer when it was asked last.</summary>
    public bool IsSilent => missedAt is not null;

    /// <summary>Whether Docker answers now, or did within the last second; known after <see cref="Limit"/> at the latest. Never throws.</summary>
    public Task<bool> BeatsAsync()
    {
        lock (askLock)
        {
            if (asking is { IsCompleted: false } || (asking is { Result: true } && time.GetElapsedTime(askedAt) < Fresh))
                return asking;
            askedAt = time.GetTimestamp();
            return asking = Task.Run(AskAsync);
        }
    }

    /// <summary>Does something by Docker, and waits for it as long as Docker answers. It goes on even where nobody waits for it any more.</summary>
    /// <param name="work">What to do; it is not begun where Docker does not answer.</param>
    /// <param name="patience">How long Docker may not answer.</param>
    /// <param name="cancel">Ends the wait.</param>
    /// <exception cref="Problem">503: Docker does not answer.</exception>
    public async Task<T> WaitAsync<T>(Func<Task<T>> work, TimeSpan patience, CancellationToken cancel)
    {
        var begun = patience > TimeSpan.Zero || await BeatsAsync() ? work() : throw Silent();
        for (long? silent = null; !begun.IsCompleted;)
        {
            await Task.WhenAny(begun, Task.Delay(Interval, time, cancel));
            cancel.ThrowIfCancellationRequested();
            if (begun.IsCompleted || await BeatsAsync())
                silent = null;
            else if (time.GetElapsedTime(silent ??= time.GetTimestamp()) >= patience && !begun.IsCompleted)
            {
                _ = begun.ContinueWith(t => _ = t.Exception, TaskScheduler.Default);
                throw Silent();
            }
        }
        return await begun;
    }

    /// <summary>Has an endpoint answer 503 where Docker does not answer.</summary>
    public static async ValueTask<object?> FilterAsync(EndpointFilterInvocationContext context, EndpointFilterDelegate next)
    {
        var http = context.HttpContext;
        return await http.RequestServices.GetRequiredService<DockerPulse>().WaitAsync(() => next(context).AsTask(), TimeSpan.Zero, http.RequestAborted);
    }

    public static Problem Silent() =>
        new(503, "Docker does not answer on this server; running droids keep serving, and what is wanted is done as soon as it answers.");

    private async Task<bool> AskAsync()
    {
        using var bound = new CancellationTokenSource(Limit);
        try
        {
            await docker.System.PingAsync(bound.Token);
            if (missedAt is { } since)
                LogBack(log, time.GetElapsedTime(since).TotalSeconds);
            missedAt = null;
            return true;
        }
        catch (Exception e) when (e is DockerApiException or HttpRequestException or TimeoutException or IOException or OperationCanceledException)
        {
            if (missedAt is null)
                LogSilent(log, e is OperationCanceledException ? $"it takes longer than {Limit.TotalSeconds:0} s" : e.Message);
            missedAt ??= time.GetTimestamp();
            return false;
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "Docker does not answer, and what needs it waits: {Fault}")]
    private static partial void LogSilent(ILogger log, string fault);

    [LoggerMessage(Level = LogLevel.Information, Message = "Docker answers again, after {Seconds:0.0} s")]
    private static partial void LogBack(ILogger log, double seconds);
}
