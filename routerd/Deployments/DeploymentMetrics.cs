using System.Diagnostics.Metrics;
using Appoxy.Daemon;

namespace Appoxy.Routerd.Deployments;

/// <summary>How deployments fare, for <c>GET /metrics</c>. One that ends counts at the routerd that saw to its end.</summary>
internal sealed class DeploymentMetrics(IMeterFactory factory)
{
    private readonly Histogram<double> durations = factory.Create(Telemetry.Meters + "Deployments").CreateHistogram<double>("appoxy.deployment.duration", "s",
        "From the wish to its end: outcome is live, cancelled, or why it failed.", null, Telemetry.Works);

    public void Ended(DeploymentStatus end, TimeSpan took) => durations.Record(took.TotalSeconds,
        new KeyValuePair<string, object?>("outcome", end.State == DeploymentStates.Failed ? end.Reason ?? DeploymentStates.Failed : end.State));
}
