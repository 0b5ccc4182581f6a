namespace Appoxy.Droidd.Builds;

/// <summary>A deployment fails for a reason that its owner can understand.</summary>
/// <param name="reason">One of <see cref="FailureReasons"/>.</param>
/// <param name="message">The reason in one line.</param>
internal sealed class BuildException(string reason, string message) : Exception(message)
{
    public string Reason { get; } = reason;
}
