namespace Appoxy.Droidd;

/// <summary>The labels by which droidd knows its containers and images again.</summary>
internal static class DroidLabels
{
    public const string Uid = "appoxy.uid";
    public const string App = "appoxy.app";
    public const string Deployment = "appoxy.deployment";

    /// <summary>The <see cref="DroidSpec"/> that the container was made for, as JSON.</summary>
    public const string Spec = "appoxy.spec";
}
