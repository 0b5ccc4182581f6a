using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.CommandLine.Parsing;

namespace Appoxy.Cli;

/// <summary>Parses the command line, runs the verb it names, and turns whatever goes wrong into one line and an exit code.</summary>
internal static class CommandLine
{
    /// <summary>How long a verb may take to end after Ctrl-C.</summary>
    private static readonly TimeSpan Goodbye = TimeSpan.FromSeconds(2);

    public static async Task<int> RunAsync(RootCommand root, string[] args)
    {
        root.Directives.Clear();
        var help = root.Options.OfType<HelpOption>().Single();
        help.Action = new HelpWithExamples((HelpAction)help.Action!);
        try
        {
            if (args is [Completion.Ask, .. var words])
                return Completion.Answer(root, words);
            // No response files: an argument that begins with @ is just that.
            var parser = new ParserConfiguration { ResponseFileTokenReplacer = null };
            var parsed = root.Parse(args, parser);
            if (parsed.Errors.Count > 0 && WithName(parsed, args) is { } named && root.Parse(named, parser) is { Errors.Count: 0 } meant)
                parsed = meant;
            if (parsed.Action is ParseErrorAction)
                throw Misused(parsed.CommandResult.Command, Explain(parsed));
            return await parsed.InvokeAsync(new InvocationConfiguration
            {
                EnableDefaultExceptionHandler = false,
                ProcessTerminationTimeout = Goodbye,
            });
        }
        catch (Failure failure)
        {
            Output.Note(failure.Message);
            return failure.ExitCode;
        }
        catch (OperationCanceledException)
        {
            return ExitCodes.Interrupted;
        }
        catch (BrokenPipeException)
        {
            // Whoever read our output, as `head` does, has had enough.
            return ExitCodes.BrokenPipe;
        }
        catch (Exception e)
        {
            Output.Note($"unexpected: {e.GetType().Name}: {e.Message}");
            return ExitCodes.Failed;
        }
    }

    /// <summary>
    /// The command line with the name of the app that appoxy.toml gives, where one is left out; null where none is, or there is no such file.
    /// </summary>
    private static string[]? WithName(ParseResult parsed, string[] args)
    {
        var command = parsed.CommandResult.Command;
        if (command.Arguments.FirstOrDefault() is not Argument<string> { Name: "NAME", Description: var description }
            || description?.Contains(AppFile.FileName, StringComparison.Ordinal) != true || AppFile.Nearest()?.Name is not { } name)
            return null;
        var at = 0;
        foreach (var word in PathOf(command).Split(' '))
            at = Array.IndexOf(args, word, at) + 1;
        return [.. args[..at], name, .. args[at..]];
    }

    /// <summary>The failure that says what is wrong with the use of a command, and where to read more.</summary>
    public static Failure Misused(Command command, string fault) =>
        Failure.Usage($"{fault} (try: appoxy {PathOf(command)}{(command is RootCommand ? "" : " ")}--help)");

    /// <summary>The name of a command, as it is typed behind <c>appoxy</c>: <c>apps create</c>.</summary>
    private static string PathOf(Command command)
    {
        var names = new List<string>();
        for (Symbol? at = command; at is Command and not RootCommand; at = at.Parents.FirstOrDefault())
            names.Insert(0, at.Name);
        return string.Join(' ', names);
    }

    /// <summary>The first thing that is wrong with a command line, in words that name it.</summary>
    private static string Explain(ParseResult parsed)
    {
        var command = parsed.CommandResult.Command;
        if (command.Action is null && command.Subcommands.Count > 0)
        {
            var verbs = string.Join(", ", command.Subcommands.Select(c => c.Name));
            var of = command is RootCommand ? "" : $" of {PathOf(command)}";
            return parsed.UnmatchedTokens is [var unknown, ..]
                ? Arguments.UnknownOption(unknown) ?? $"there is no command '{unknown}'{of}; there are {verbs}"
                : $"say which command{of}: {verbs}";
        }
        // What is too much explains more than what is then missing.
        var error = parsed.Errors.FirstOrDefault(e => e.Message.StartsWith("Unrecognized", StringComparison.Ordinal)) ?? parsed.Errors[0];
        return error.SymbolResult switch
        {
            ArgumentResult { Tokens.Count: 0, Argument: var missing } when missing.Arity.MinimumNumberOfValues > 0 =>
                $"{PathOf(command)} needs {missing.Name}",
            OptionResult { Tokens.Count: 0, Option: var bare } when bare.Arity.MinimumNumberOfValues > 0 =>
                $"{bare.Name} needs {bare.HelpName ?? "a value"}",
            _ => error.Message.TrimEnd('.'),
        };
    }

    /// <summary>The library's help, and below it how the command is used.</summary>
    private sealed class HelpWithExamples(HelpAction help) : SynchronousCommandLineAction
    {
        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parsed)
        {
            var code = help.Invoke(parsed);
            var command = parsed.CommandResult.Command;
            var examples = command switch
            {
                Verb verb => verb.Examples,
                RootCommand =>
                    ["appoxy apps create shop", "appoxy deploy shop --git https://github.com/acme/shop --ref main", "appoxy logs shop -f"],
                _ => command.Subcommands.OfType<Verb>().Select(v => v.Examples[0]).ToList(),
            };
            var output = parsed.InvocationConfiguration.Output;
            output.WriteLine(examples.Count == 1 ? "Example:" : "Examples:");
            foreach (var example in examples)
                output.WriteLine($"  {example}");
            output.WriteLine();
            return code;
        }
    }
}
