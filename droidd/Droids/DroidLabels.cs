namespace Appoxy.Droidd;

/// <summary>The labels by which droidd knows its containers and images again.</summary>
internal static class DroidLabels
{
    public const string Uid = "appoxy.uid";
    public const string App = "appoxy.app";
    public const string Deployment = "appoxy.deployment";

    /// <summary>What it is: <c>web.1</c>, <c>worker.2</c>; none on those of an older droidd, which are <c>web.1</c>.</summary>
    public const string Process = "appoxy.process";

    /// <summary>The same for containers that were made to serve together.</summary>
    public const string Release = "appoxy.release";

    /// <summary>The image's <see cref="ProcessType"/>s, as JSON.</summary>
    public const string Types = "appoxy.types";

    /// <summary>
    /// The data folder of the droidd that it belongs to, which tells apart several Appoxys that share a Docker; none on containers of an
    /// older droidd, which belong to the one with their network.
    /// </summary>
    public const string Owner = "appoxy.owner";

    /// <summary>Its address on droid-net, which Docker forgets when somebody takes it off that.</summary>
    public const string Address = "appoxy.address";

    /// <summary>
    /// <c>container</c>: the values of the spec's env are only where Docker needs them, in the container's own environment. Labels are shown
    /// by lists and events. None on containers of an older droidd, whose spec holds them.
    /// </summary>
    public const string Env = "appoxy.env";

    /// <summary>The <see cref="DroidSpec"/> that the container was made for, as JSON, without what is secret of it.</summary>
    public const string Spec = "appoxy.spec";
}
