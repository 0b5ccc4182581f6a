using System.CommandLine;
using System.Globalization;

namespace Appoxy.Cli;

/// <summary><c>appoxy settings</c>: shows an app's settings, or changes those that are given.</summary>
internal static class Settings
{
    private static readonly Key[] Keys =
    [
        new("pause-after", "a time such as 5m, or 0 for never", v => IsTime(v, 0, int.MaxValue),
            s => s.PauseAfter, (s, v) => s with { PauseAfter = v }),
        new("snooze-after", "a time such as 30m, or 0 for never", v => IsTime(v, 0, int.MaxValue),
            s => s.SnoozeAfter, (s, v) => s with { SnoozeAfter = v }),
        new("start-timeout", "a time from 1s to 10m", v => IsTime(v, 1, 600), s => s.StartTimeout, (s, v) => s with { StartTimeout = v }),
        new("health", "a path such as /healthz, or tcp", IsHealth, s => s.Health, (s, v) => s with { Health = v }),
        new("memory", "a size from 16m, or 0 for no limit", IsMemory, s => s.Memory, (s, v) => s with { Memory = v }),
        new("cpus", "a number from 0.05, or 0 for no limit", IsCpus, s => s.Cpus, (s, v) => s with { Cpus = v }),
        new("port", "a port from 1 to 65535, or auto", IsPort, s => s.Port, (s, v) => s with { Port = v }),
    ];

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
        var pairs = Arguments.Pairs("KEY=VALUE", string.Join(", ", Keys.Select(k => k.Name)), required: false);
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
            settings = Keys.Single(k => k.Name == key).With(settings, value);
        return settings;
    }

    public static IEnumerable<(string Name, string? Value)> Show(AppSettings settings) => Keys.Select(k => (k.Name, k.Of(settings)));

    private static string? Fault(string pair, HashSet<string> seen)
    {
        var (name, value) = Split(pair);
        if (!pair.Contains('=', StringComparison.Ordinal))
            return Arguments.UnknownOption(pair) ?? $"'{pair}' is not KEY=VALUE";
        if (Keys.FirstOrDefault(k => k.Name == name) is not { } key)
            return $"there is no setting '{name}'; there are {string.Join(", ", Keys.Select(k => k.Name))}";
        if (!seen.Add(name))
            return $"{name} is given twice";
        return key.IsValid(value) ? null : $"{name} is '{value}': give {key.Example}";
    }

    private static (string Key, string Value) Split(string pair) =>
        pair.IndexOf('=', StringComparison.Ordinal) is var at and >= 0 ? (pair[..at], pair[(at + 1)..]) : (pair, "");

    private static bool IsTime(string text, int least, int most) =>
        Quantities.TryParseSeconds(text, out var seconds) && seconds >= least && seconds <= most;

    private static bool IsMemory(string text) => Quantities.TryParseBytes(text, out var bytes) && bytes is 0 or >= 16 << 20;

    private static bool IsHealth(string text) => text == "tcp" || text.StartsWith('/');

    private static bool IsCpus(string text) =>
        decimal.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var cpus)
        && cpus is 0 or (>= 0.05m and <= 256);

    private static bool IsPort(string text) =>
        text == "auto" || (ushort.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port > 0);

    /// <summary>One setting.</summary>
    /// <param name="Name">As users write it.</param>
    /// <param name="Example">What a value looks like.</param>
    /// <param name="IsValid">Whether a value makes sense; routerd looks closer.</param>
    /// <param name="Of">Its value.</param>
    /// <param name="With">The settings with another value of it.</param>
    private sealed record Key(
        string Name,
        string Example,
        Func<string, bool> IsValid,
        Func<AppSettings, string?> Of,
        Func<AppSettings, string, AppSettings> With);
}
