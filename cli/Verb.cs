using System.CommandLine;

namespace Appoxy.Cli;

/// <summary>A command, with examples of its use for <c>--help</c>.</summary>
internal sealed class Verb(string name, string description, params string[] examples) : Command(name, description)
{
    /// <summary>Taken by every command.</summary>
    public static readonly Option<bool> Json = new("--json") { Description = "Print JSON, for scripts", Recursive = true };

    public IReadOnlyList<string> Examples { get; } = examples;

    /// <summary>Sets what the command does.</summary>
    /// <param name="action">Does it; fails by throwing <see cref="Failure"/>.</param>
    /// <param name="faultOf">Says what is wrong with a command line whose arguments are each right; null if nothing is.</param>
    public Verb Does(Func<Call, CancellationToken, Task> action, Func<ParseResult, string?>? faultOf = null)
    {
        SetAction(async (parsed, cancel) =>
        {
            if (faultOf?.Invoke(parsed) is { } fault)
                throw CommandLine.Misused(this, fault);
            var connection = Connection.Find();
            using var routerd = new Routerd(connection);
            await action(new Call(parsed, routerd, connection), cancel);
            return ExitCodes.Done;
        });
        return this;
    }
}

/// <summary>One use of a command: its arguments, and the routerd that it talks to.</summary>
internal sealed class Call(ParseResult parsed, Routerd routerd, Connection connection)
{
    public Routerd Routerd { get; } = routerd;

    /// <summary>Where that is, and as whom.</summary>
    public Connection Connection { get; } = connection;

    /// <summary>Whether JSON is to be printed.</summary>
    public bool Json { get; } = parsed.GetValue(Verb.Json);

    public T Get<T>(Argument<T> argument) => parsed.GetValue(argument)!;

    public T? Get<T>(Option<T> option) => parsed.GetValue(option);
}
