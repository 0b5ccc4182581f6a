using System.Globalization;

namespace Appoxy;

/// <summary>One of an app's settings, and the rule for its value: the same in the CLI, which checks early, and in routerd, which decides.</summary>
/// <param name="Name">As users write it: <c>snooze-after</c>.</param>
/// <param name="Member">Its member in <see cref="AppSettings"/>'s JSON: <c>snoozeAfter</c>.</param>
/// <param name="Example">What a value looks like, as in "give …".</param>
/// <param name="Default">Its value where none is set.</param>
/// <param name="Normalize">The shortest form of a value, or null if it is none.</param>
/// <param name="Of">Its value in some settings; null if not set there.</param>
/// <param name="With">Some settings with another value of it.</param>
public sealed record AppSetting(
    string Name,
    string Member,
    string Example,
    string Default,
    Func<string, string?> Normalize,
    Func<AppSettings, string?> Of,
    Func<AppSettings, string?, AppSettings> With)
{
    private const long LeastMemory = 16 << 20;
    private const int MaxBuildpacks = 20;

    /// <summary>Whether the value 0, which lifts a limit, is for admins only.</summary>
    public bool ZeroIsForAdmins { get; private init; }

    /// <summary>All settings, in the order in which they are shown.</summary>
    public static IReadOnlyList<AppSetting> All { get; } =
    [
        new("pause-after", "pauseAfter", "a time such as 5m, or 0 for never", "5m", v => Time(v, 0, int.MaxValue),
            s => s.PauseAfter, (s, v) => s with { PauseAfter = v }),
        new("snooze-after", "snoozeAfter", "a time such as 30m, or 0 for never", "30m", v => Time(v, 0, int.MaxValue),
            s => s.SnoozeAfter, (s, v) => s with { SnoozeAfter = v }),
        new("start-timeout", "startTimeout", "a time from 1s to 10m", "60s", v => Time(v, 1, 600),
            s => s.StartTimeout, (s, v) => s with { StartTimeout = v }),
        new("health", "health", "tcp, or a path such as /health", "tcp", Health, s => s.Health, (s, v) => s with { Health = v }),
        new("memory", "memory", "a size from 16m, or 0 for no limit", "512m", Memory, s => s.Memory, (s, v) => s with { Memory = v })
            { ZeroIsForAdmins = true },
        new("cpus", "cpus", "a number from 0.05 to 256, or 0 for no limit", "1", Cpus, s => s.Cpus, (s, v) => s with { Cpus = v })
            { ZeroIsForAdmins = true },
        new("pids", "pids", "a number from 16 to 32768, or 0 for no limit", "256", Pids, s => s.Pids, (s, v) => s with { Pids = v })
            { ZeroIsForAdmins = true },
        new("disk", "disk", "a size from 16m, or 0 for no limit", "2g", Memory, s => s.Disk, (s, v) => s with { Disk = v })
            { ZeroIsForAdmins = true },
        new("read-only", "readOnly", "on or off", "off", v => v is "on" or "off" ? v : null, s => s.ReadOnly, (s, v) => s with { ReadOnly = v }),
        new("port", "port", "auto, or a port from 1 to 65535", "auto", Port, s => s.Port, (s, v) => s with { Port = v }),
        new("buildpacks", "buildpacks", "images of buildpacks separated by commas, or none", "none", Buildpacks,
            s => s.Buildpacks, (s, v) => s with { Buildpacks = v }),
        new("snooze-workers", "snoozeWorkers", "on or off", "off", v => v is "on" or "off" ? v : null,
            s => s.SnoozeWorkers, (s, v) => s with { SnoozeWorkers = v }),
        new("wake", "wake", "hold, or page", "hold", v => v is "hold" or "page" ? v : null, s => s.Wake, (s, v) => s with { Wake = v }),
        new("keep-awake", "keepAwake", "times such as Mon-Fri 08:00-18:00 Europe/Berlin, separated by commas, or off", "off", KeepAwake,
            s => s.KeepAwake, (s, v) => s with { KeepAwake = v }),
        new("branch", "branch", "auto, or the branch whose pushes are deployed", "auto", v => SourceRules.IsBranch(v) ? v : null,
            s => s.Branch, (s, v) => s with { Branch = v }),
        new("constraint", "constraint", "labels of the server such as zone=eu,disk!=slow or server=ds2, or none", "none",
            v => Labels.Parse(v) is { } constraints ? constraints.Count == 0 ? "none" : string.Join(',', constraints) : null,
            s => s.Constraint, (s, v) => s with { Constraint = v }),
        new("move-when-down", "moveWhenDown", "on or off", "on", v => v is "on" or "off" ? v : null,
            s => s.MoveWhenDown, (s, v) => s with { MoveWhenDown = v }),
    ];

    /// <summary>The settings in force: those set, and the defaults for the others.</summary>
    public static AppSettings InForce(AppSettings stored) => All.Aggregate(stored, (s, rule) => rule.With(s, rule.Of(s) ?? rule.Default));

    private static string? Time(string text, int least, int most) =>
        Quantities.TryParseSeconds(text, out var seconds) && seconds >= least && seconds <= most ? Quantities.FormatSeconds(seconds) : null;

    private static string? Memory(string text) =>
        Quantities.TryParseBytes(text, out var bytes) && bytes is 0 or >= LeastMemory ? Quantities.FormatBytes(bytes) : null;

    private static string? Cpus(string text) =>
        text.Length <= 8 && decimal.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var cpus)
        && cpus is 0 or (>= 0.05m and <= 256) && cpus == Math.Round(cpus, 2) ? cpus.ToString("0.##", CultureInfo.InvariantCulture) : null;

    private static string? Pids(string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var pids) && pids is 0 or (>= 16 and <= 32768)
            ? pids.ToString(CultureInfo.InvariantCulture) : null;

    private static string? Port(string text) =>
        text == "auto" || (text.Length <= 5 && ushort.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port > 0)
            ? text : null;

    private static string? Buildpacks(string text) => text == "none" ? text
        : text.Split(',', StringSplitOptions.TrimEntries) is { Length: <= MaxBuildpacks } images && images.All(SourceRules.IsImage)
            ? string.Join(',', images) : null;

    private static string? KeepAwake(string text) =>
        text == "off" ? text : AwakeWindow.Parse(text) is { } windows ? string.Join(", ", windows) : null;

    private static string? Health(string text) =>
        text == "tcp" || (text.Length is > 0 and <= 1000 && text[0] == '/' && !text.StartsWith("//", StringComparison.Ordinal)
            && text.All(c => c is > ' ' and < '\x7f' and not ('#' or '\\' or '"' or '<' or '>'))) ? text : null;
}
