using System.Diagnostics;
using System.Diagnostics.Metrics;
using Appoxy.Daemon;
using Appoxy.Droidd.Droids;

namespace Appoxy.Droidd.Builds;

/// <summary>How builds fare, for <c>GET /metrics</c>.</summary>
internal static class BuildMetrics
{
    private static readonly Histogram<double> durations = new Meter(Telemetry.Meters + "Builds").CreateHistogram<double>("appoxy.build.duration", "s",
        "From a build's turn to its image, the fetch of its source included; outcome is built, cancelled, or why not.", null, Telemetry.Works);

    /// <summary>Measures a build that has its turn.</summary>
    public static async Task<BuiltImage> MeasureAsync(Func<Task<BuiltImage>> build)
    {
        var (began, outcome) = (Stopwatch.GetTimestamp(), FailureReasons.Server);
        try
        {
            var image = await build();
            outcome = "built";
            return image;
        }
        catch (BuildException e)
        {
            outcome = e.Reason;
            throw;
        }
        catch (OperationCanceledException)
        {
            outcome = "cancelled";
            throw;
        }
        finally
        {
            durations.Record(Stopwatch.GetElapsedTime(began).TotalSeconds, new KeyValuePair<string, object?>("outcome", outcome));
        }
    }
}
