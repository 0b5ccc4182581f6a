using System.CommandLine;
using System.CommandLine.Completions;
using System.CommandLine.Parsing;

namespace Appoxy.Cli;

/// <summary>The arguments that several commands take, each checked before anything is sent.</summary>
internal static class Arguments
{
    /// <summary>An app's name.</summary>
    public static Argument<string> App()
    {
        var argument = new Argument<string>("NAME") { Description = "The app's name; appoxy.toml may say it instead" };
        argument.CompletionSources.Add(_ => Completion.Apps().Select(a => new CompletionItem(a)));
        argument.Validators.Add(CheckApp);
        return argument;
    }

    /// <summary>An app's name, or nothing for all apps.</summary>
    public static Argument<string?> OptionalApp()
    {
        var argument = new Argument<string?>("NAME") { Description = "The app's name; else all apps", Arity = ArgumentArity.ZeroOrOne };
        argument.CompletionSources.Add(_ => Completion.Apps().Select(a => new CompletionItem(a)));
        argument.Validators.Add(CheckApp);
        return argument;
    }

    /// <summary>A droid-server's name.</summary>
    public static Argument<string> Server() => Checked("NAME", "The droid-server's name", text =>
        Names.IsServerName(text) ? null : $"'{text}' is no server name: give one such as ds1");

    /// <summary>An option that takes a droid-server's name.</summary>
    public static Option<string?> ServerOption(string name, string description)
    {
        var option = new Option<string?>(name) { Description = description, HelpName = "SERVER" };
        option.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && !Names.IsServerName(token.Value))
                result.AddError($"{name} is '{token.Value}': give a droid-server's name such as ds1");
        });
        return option;
    }

    /// <summary>A hostname; <see cref="Host"/> brings it to the form that the API takes.</summary>
    public static Argument<string> Hostname(bool allowWildcard) => Checked("HOST", "A hostname, such as www.example.com", text =>
        Names.TryNormalizeHost(text, out _, allowWildcard) ? null : $"'{text}' is no hostname: give one such as www.example.com");

    /// <summary>One or more, or any number of, <c>KEY=VALUE</c>.</summary>
    public static Argument<string[]> Pairs(string name, string description, bool required) =>
        new(name) { Description = description, Arity = required ? ArgumentArity.OneOrMore : ArgumentArity.ZeroOrMore };

    /// <summary>The one form of a hostname that passed <see cref="Hostname"/>.</summary>
    public static string Host(string text) =>
        Names.TryNormalizeHost(text, out var host, allowWildcard: true) ? host : throw Failure.Usage($"'{text}' is no hostname");

    /// <summary>An option that takes a count.</summary>
    public static Option<int?> Count(string name, string description, int least)
    {
        var option = new Option<int?>(name) { Description = description, HelpName = "N" };
        option.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && (!int.TryParse(token.Value, out var count) || count < least))
                result.AddError($"{name} is '{token.Value}': give a number from {least}");
        });
        return option;
    }

    /// <summary>What an argument that begins with a dash most likely was meant as; null for any other.</summary>
    public static string? UnknownOption(string text) => text.StartsWith('-') ? $"there is no option {text} here" : null;

    private static void CheckApp(ArgumentResult result)
    {
        if (result.Tokens is [var token] && !Names.IsAppName(token.Value))
            result.AddError(UnknownOption(token.Value)
                ?? $"'{token.Value}' is no app name: give 2 to 40 of a-z, 0-9 and single dashes, starting with a letter");
    }

    private static Argument<string> Checked(string name, string description, Func<string, string?> fault)
    {
        var argument = new Argument<string>(name) { Description = description };
        argument.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && (UnknownOption(token.Value) ?? fault(token.Value)) is { } message)
                result.AddError(message);
        });
        return argument;
    }
}
