using System.Globalization;
using Appoxy.Droidd.Droids;

namespace Appoxy.Droidd.Hooks;

/// <summary>
/// The one slow path: the local nginx asks here whenever its dict does not say running, or a running droid did not answer. Each
/// answer is a 404, a 502, a 503 or the page of an app that wakes for the visitor, or the word to go on to the droid, with the
/// visitor's method and body.
/// </summary>
internal static class WakeHook
{
    public const string Path = "/wake";

    /// <summary>By this nginx knows that the visitor gets the page of an app that wakes.</summary>
    private const int PageInstead = 425;

    private static readonly string[] SafeMethods = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"];

    public static void MapWakeHook(this IEndpointRouteBuilder routes) => routes.MapGet(Path, async (
        HttpContext http, DroidServer server, DockerPulse docker, TimeProvider time) =>
    {
        var (began, outcome) = (time.GetTimestamp(), "unavailable");
        try
        {
            var status = await AnswerAsync(http, server, docker);
            outcome = status switch { 200 => "ready", 404 => "unknown", PageInstead => "page", 502 => "not_repeated", _ => "unavailable" };
            return TypedResults.StatusCode(status);
        }
        finally
        {
            DroidMetrics.Hooked(outcome, time.GetElapsedTime(began));
        }
    });

    private static async Task<int> AnswerAsync(HttpContext http, DroidServer server, DockerPulse docker)
    {
        string Header(string name) => http.Request.Headers[name].ToString();
        var (uid, reason) = (Header("X-Appoxy-Uid"), Header("X-Appoxy-Reason"));
        await server.ReadyAsync(http.RequestAborted);
        if (server.Find(uid) is not { } droid)
            return 404;
        var failed = reason is "502" or "503" or "504";
        // A request that may have reached the app is not sent a second time, unless a repetition does no harm.
        if (failed && Header("X-Appoxy-Sent") == "1" && (reason == "504" || !SafeMethods.Contains(Header("X-Appoxy-Method"))))
            return 502;
        if (!failed && droid.ShowsPage && Header("X-Appoxy-Method") == "GET" && TakesHtml(Header("X-Appoxy-Accept")))
        {
            // Not waited for: how it went, the page's next look tells.
            _ = droid.WakeAsync(failed: false);
            if (droid.WakeTimes.Expected(paused: false) is { } seconds)
                http.Response.Headers["X-Appoxy-Wakes-In"] = Math.Ceiling(seconds).ToString(CultureInfo.InvariantCulture);
            return PageInstead;
        }
        if (await docker.WaitAsync(() => droid.WakeAsync(failed), DockerPulse.VisitorsPatience, http.RequestAborted) != WakeOutcome.Ready)
            return 503;
        http.Response.Headers["X-Accel-Redirect"] = "@droid";
        return 200;
    }

    /// <summary>Whether a page is asked for, as by a browser that opens one; scripts, websockets and event streams accept other things.</summary>
    internal static bool TakesHtml(string accept) => accept.Split(',').Any(type => type.Split(';')[0].Trim() == "text/html");
}
