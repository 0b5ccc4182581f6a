using Appoxy.Nginx;

namespace Appoxy.Daemon;

/// <summary>Takes one line of an access log.</summary>
public delegate void TakeVisit(in Visit visit);

/// <summary>
/// The lines that an nginx adds to its access log, as they come: what is counted of them costs nginx nothing, and visitors no wait.
/// </summary>
public static class VisitLog
{
    // nginx keeps lines to itself for a second.
    private static readonly TimeSpan Poll = TimeSpan.FromSeconds(1);

    /// <summary>Passes on what comes from now on, until cancelled.</summary>
    /// <param name="settings">The nginx.</param>
    /// <param name="name"><c>global</c> or <c>local</c>.</param>
    /// <param name="take">Gets each line.</param>
    /// <param name="time">The clock.</param>
    /// <param name="cancel">Ends it.</param>
    public static async Task FollowAsync(NginxSettings settings, string name, TakeVisit take, TimeProvider time, CancellationToken cancel)
    {
        await using var log = new GrowingLog(Path.Combine(settings.LogDir, $"{name}-access.log"), time);
        await log.FollowAsync(lines =>
        {
            for (var rest = lines.Span; rest.IndexOf((byte)'\n') is >= 0 and var end; rest = rest[(end + 1)..])
            {
                if (Visit.TryRead(rest[..end], out var visit))
                    take(visit);
            }
            return ValueTask.CompletedTask;
        }, Poll, cancel);
    }

    /// <summary>A status as its class, <c>2xx</c>, so that there are few.</summary>
    public static string ClassOf(int status) => status switch
    {
        >= 500 => "5xx", >= 400 => "4xx", >= 300 => "3xx", >= 200 => "2xx", _ => "1xx",
    };
}
