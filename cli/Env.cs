using System.CommandLine;
using System.CommandLine.Parsing;

namespace Appoxy.Cli;

/// <summary><c>appoxy env</c>: the environment that an app runs with.</summary>
internal static class Env
{
    public static Command Define() => new("env", "Lists, sets and unsets an app's environment variables.") { List(), Set(), Unset() };

    private static Verb List()
    {
        var name = Arguments.App();
        return new Verb("list", "Lists an app's variables with their values.", "appoxy env list shop") { name }.Does(async (call, cancel) =>
        {
            var env = await call.Routerd.GetAsync<Dictionary<string, string>>(Routerd.App(call.Get(name), "env"), cancel);
            var sorted = env.Value.OrderBy(e => e.Key, StringComparer.Ordinal);
            if (call.Json)
                Output.Json(env.Json);
            else
                Output.Table(sorted, ("NAME", e => e.Key), ("VALUE", e => e.Value));
        });
    }

    private static Verb Set()
    {
        var name = Arguments.App();
        var pairs = Arguments.Pairs("K=V", "A variable and its value", required: false);
        var file = new Option<string?>("--file") { Description = "A file of such lines; - is standard input", HelpName = "FILE" };
        pairs.Validators.Add(result => FirstFault(result, PairFault));
        return new Verb("set", "Sets variables; the app's container is replaced.",
            "appoxy env set shop GREETING=hello", "appoxy env set shop --file secrets.env") { name, pairs, file }
            .Does((call, cancel) =>
            {
                var changes = new Dictionary<string, string>(StringComparer.Ordinal);
                foreach (var pair in (call.Get(file) is { } path ? ReadPairs(path) : []).Concat(call.Get(pairs)))
                {
                    var at = pair.IndexOf('=', StringComparison.Ordinal);
                    changes[pair[..at]] = pair[(at + 1)..];
                }
                return changes.Count == 0
                    ? throw Failure.Usage("there is no K=V in that file")
                    : ChangeAsync(call, call.Get(name), changes, "set", cancel);
            }, parsed => parsed.GetValue(pairs) is { Length: > 0 } || parsed.GetValue(file) is not null
                ? null
                : "say what to set: K=V or --file FILE");
    }

    private static Verb Unset()
    {
        var name = Arguments.App();
        var keys = Arguments.Pairs("K", "A variable's name", required: true);
        keys.Validators.Add(result => FirstFault(result, NameFault));
        return new Verb("unset", "Removes variables; the app's container is replaced.", "appoxy env unset shop GREETING") { name, keys }
            .Does((call, cancel) =>
            {
                // The API takes null for a variable that is to go.
                var changes = call.Get(keys).Distinct().ToDictionary(key => key, _ => (string)null!);
                return ChangeAsync(call, call.Get(name), changes, "unset", cancel);
            });
    }

    private static async Task ChangeAsync(Call call, string app, Dictionary<string, string> changes, string done, CancellationToken cancel)
    {
        var path = Routerd.App(app, "env");
        var env = await call.Routerd.PatchAsync<Dictionary<string, string>, Dictionary<string, string>>(path, changes, cancel);
        if (call.Json)
            Output.Json(env.Json);
        else
            Output.Line($"{string.Join(", ", changes.Keys)} {done} for {app}");
    }

    private static List<string> ReadPairs(string path)
    {
        string text;
        try
        {
            text = path == "-" ? Console.In.ReadToEnd() : File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Failure.Usage($"can't read {path}: {e.Message}");
        }
        var pairs = text.Split('\n').Select((line, at) => (Text: line.TrimEnd('\r'), Number: at + 1))
            .Where(line => line.Text.Trim() is { Length: > 0 } content && content[0] != '#').ToList();
        foreach (var (line, number) in pairs)
            // The line's text may be a secret: its number is enough.
            if (PairFault(line) is not null)
                throw Failure.Usage($"line {number} of {(path == "-" ? "standard input" : path)} is not K=V");
        return pairs.ConvertAll(line => line.Text);
    }

    private static void FirstFault(ArgumentResult result, Func<string, string?> faultOf)
    {
        if (result.Tokens.Select(t => faultOf(t.Value)).FirstOrDefault(f => f is not null) is { } fault)
            result.AddError(fault);
    }

    private static string? PairFault(string pair) => pair.IndexOf('=', StringComparison.Ordinal) is var at and >= 0
        ? NameFault(pair[..at])
        : Arguments.UnknownOption(pair) ?? $"'{pair}' is not K=V";

    private static string? NameFault(string name) => Names.IsEnvName(name)
        ? null
        : Arguments.UnknownOption(name) ?? $"'{name}' names no variable: give letters, digits and _, not starting with a digit";
}
