using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy settings</c>: shows an app's settings, or changes those that are given.</summary>
internal static class Settings
{
    public static Verb Define()
    {
        var name = Arguments.App();
        var pairs = Argument();
        return new Verb("settings", "Shows an app's settings, or changes them.",
            "appoxy settings shop", "appoxy settings shop snooze-after=10m memory=256m health=/healthz") { name, pairs }
            .Does(async (call, cancel) =>
            {
                var path = Routerd.App(call.Get(name));
                var app = call.Get(pairs) is { Length: > 0 } changes
                    ? await call.Routerd.PatchAsync<AppSettings, App>(path, Parse(changes), cancel)
                    : await call.Routerd.GetAsync<App>(path, cancel);
                if (call.Json)
                    Output.Json(app.Json.GetProperty("settings"));
                else
                    Output.Pairs(Show(app.Value.Settings));
            });
    }

    /// <summary>Any number of <c>KEY=VALUE</c>, each checked.</summary>
    public static Argument<string[]> Argument()
    {
        var pairs = Arguments.Pairs("KEY=VALUE", string.Join(", ", AppSetting.All.Select(k => k.Name)), required: false);
        pairs.Validators.Add(result =>
        {
            var seen = new HashSet<string>(StringComparer.Ordinal);
            foreach (var token in result.Tokens)
                if (Fault(token.Value, seen) is { } fault)
                {
                    result.AddError(fault);
                    return;
                }
        });
        return pairs;
    }

    /// <summary>Settings from pairs that passed the checks of <see cref="Argument"/>.</summary>
    public static AppSettings Parse(string[] pairs)
    {
        var settings = new AppSettings();
        foreach (var (key, value) in pairs.Select(Split))
            settings = AppSetting.All.Single(k => k.Name == key).With(settings, value);
        return settings;
    }

    public static IEnumerable<(string Name, string? Value)> Show(AppSettings settings) => AppSetting.All.Select(k => (k.Name, k.Of(settings)));

    private static string? Fault(string pair, HashSet<string> seen)
    {
        var (name, value) = Split(pair);
        if (!pair.Contains('=', StringComparison.Ordinal))
            return Arguments.UnknownOption(pair) ?? $"'{pair}' is not KEY=VALUE";
        if (AppSetting.All.FirstOrDefault(k => k.Name == name) is not { } key)
            return $"there is no setting '{name}'; there are {string.Join(", ", AppSetting.All.Select(k => k.Name))}";
        if (!seen.Add(name))
            return $"{name} is given twice";
        return key.Normalize(value) is not null ? null : $"{name} is '{value}': give {key.Example}";
    }

    private static (string Key, string Value) Split(string pair) =>
        pair.IndexOf('=', StringComparison.Ordinal) is var at and >= 0 ? (pair[..at], pair[(at + 1)..]) : (pair, "");
}
