using System.CommandLine;
using System.Globalization;

namespace Appoxy.Cli;

/// <summary><c>appoxy scale</c>: how many of each process type run.</summary>
internal static class Scale
{
    public static Verb Define()
    {
        var name = Arguments.App();
        var pairs = Arguments.Pairs("TYPE=N", "A process type, and how many of it are to run", required: false);
        pairs.Validators.Add(result =>
        {
            var seen = new HashSet<string>(StringComparer.Ordinal);
            if (result.Tokens.Select(t => Fault(t.Value, seen)).FirstOrDefault(f => f is not null) is { } fault)
                result.AddError(fault);
        });
        return new Verb("scale", "Shows how many of each process type run, or changes it.",
            "appoxy scale shop", "appoxy scale shop web=2 worker=1") { name, pairs }
            .Does(async (call, cancel) =>
            {
                var path = Routerd.App(call.Get(name), "scale");
                var scale = call.Get(pairs) is { Length: > 0 } changes
                    ? await call.Routerd.PatchAsync<Dictionary<string, int>, Page<ProcessScale>>(
                        path, changes.Select(Split).ToDictionary(p => p.Type, p => Count(p.Count)!.Value), cancel)
                    : await call.Routerd.GetAsync<Page<ProcessScale>>(path, cancel);
                if (call.Json)
                    Output.Json(scale.Items);
                else
                    Output.Table(scale.Value.Items, ("TYPE", s => s.Type), ("COUNT", s => s.Count.ToString(CultureInfo.InvariantCulture)),
                        ("RUNNING", s => s.Running.ToString(CultureInfo.InvariantCulture)), ("COMMAND", s => s.Command));
                if (call.Get(pairs) is { Length: > 0 } && scale.Value.Items.FirstOrDefault(s => s.Error is not null) is { } failed)
                    throw new Failure(ExitCodes.Failed, $"{failed.Error}; what it printed shows: appoxy logs {call.Get(name)}");
            });
    }

    private static string? Fault(string pair, HashSet<string> seen)
    {
        var (type, text) = Split(pair);
        if (!pair.Contains('=', StringComparison.Ordinal))
            return Arguments.UnknownOption(pair) ?? $"'{pair}' is not TYPE=N";
        if (!seen.Add(type))
            return $"{type} is given twice";
        return Count(text) is { } count ? Formations.Fault(type, count) : $"{type} is '{text}': give a number";
    }

    private static int? Count(string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var count) ? count : null;

    private static (string Type, string Count) Split(string pair) =>
        pair.IndexOf('=', StringComparison.Ordinal) is var at and >= 0 ? (pair[..at], pair[(at + 1)..]) : (pair, "");
}
