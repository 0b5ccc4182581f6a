namespace Appoxy.Droidd.Builds;

/// <summary>A deployment fails for a reason that its owner can understand: the message, in one line.</summary>
internal sealed class BuildException(string message) : Exception(message);
