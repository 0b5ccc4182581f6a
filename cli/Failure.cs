namespace Appoxy.Cli;

/// <summary>What the exit code of <c>appoxy</c> says.</summary>
internal static class ExitCodes
{
    public const int Done = 0;
    public const int Failed = 1;
    public const int Usage = 2;
    public const int NotFound = 3;
    public const int NotAllowed = 4;

    /// <summary>Ctrl-C, as shells write it: 128 + SIGINT.</summary>
    public const int Interrupted = 130;

    /// <summary>Nobody reads our output any more: 128 + SIGPIPE.</summary>
    public const int BrokenPipe = 141;
}

/// <summary>A command could not do what it was asked for.</summary>
/// <param name="exitCode">One of <see cref="ExitCodes"/>.</param>
/// <param name="message">One line for the user.</param>
internal class Failure(int exitCode, string message) : Exception(message)
{
    public int ExitCode { get; } = exitCode;

    public static Failure Usage(string message) => new(ExitCodes.Usage, message);
}

/// <summary>routerd, or a proxy before it, gave no answer that means anything: the same call may succeed a moment later.</summary>
internal sealed class Unreachable(string message) : Failure(ExitCodes.Failed, message);

/// <summary>The reader of our standard output is gone.</summary>
internal sealed class BrokenPipeException(IOException inner) : Exception(inner.Message, inner);
