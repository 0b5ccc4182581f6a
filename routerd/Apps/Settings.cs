using System.Globalization;
using Appoxy.Routerd.Database;

namespace Appoxy.Routerd.Apps;

/// <summary>
/// The rules of an app's settings, and what becomes of them in its spec. Stored are only those that were set, in their shortest form.
/// </summary>
internal static class Settings
{
    private const int LongestStart = 600;
    private const long LeastMemory = 16 << 20;

    private static readonly AppSettings Defaults = new()
    {
        PauseAfter = "5m", SnoozeAfter = "30m", StartTimeout = "60s", Health = "tcp", Memory = "512m", Cpus = "1", Port = "auto",
    };

    /// <summary>What is stored after <paramref name="change"/>; null members of it keep what is.</summary>
    /// <exception cref="Problem">400, with a line that names each setting at fault.</exception>
    public static AppSettings Merge(AppSettings stored, AppSettings change, bool admin)
    {
        var faults = new List<string>();
        var merged = new AppSettings
        {
            PauseAfter = Seconds("pauseAfter", change.PauseAfter, 0, int.MaxValue, "a time such as 5m, or 0 for never")
                ?? stored.PauseAfter,
            SnoozeAfter = Seconds("snoozeAfter", change.SnoozeAfter, 0, int.MaxValue, "a time such as 30m, or 0 for never")
                ?? stored.SnoozeAfter,
            StartTimeout = Seconds("startTimeout", change.StartTimeout, 1, LongestStart, "a time from 1s to 10m") ?? stored.StartTimeout,
            Health = Check("health", change.Health, IsHealth, "tcp, or a path such as /health") ?? stored.Health,
            Memory = Memory(change.Memory) ?? stored.Memory,
            Cpus = Cpus(change.Cpus) ?? stored.Cpus,
            Port = Check("port", change.Port, IsPort, "auto, or a port from 1 to 65535") ?? stored.Port,
        };
        return faults.Count == 0 ? merged : throw Problem.BadRequest(string.Join("; ", faults) + ".");

        string? Seconds(string name, string? text, int least, int most, string hint)
        {
            if (text is null)
                return null;
            if (Quantities.TryParseSeconds(text, out var seconds) && seconds >= least && seconds <= most)
                return Quantities.FormatSeconds(seconds);
            return Fault(name, text, hint);
        }

        string? Memory(string? text)
        {
            if (text is null)
                return null;
            if (Quantities.TryParseBytes(text, out var bytes) && (bytes >= LeastMemory || (bytes == 0 && admin)))
                return Quantities.FormatBytes(bytes);
            return Fault("memory", text, admin ? "a size from 16m, or 0 for no limit" : "a size from 16m");
        }

        string? Cpus(string? text)
        {
            if (text is null)
                return null;
            if (text.Length <= 8 && decimal.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var cpus)
                && cpus <= 256 && cpus == Math.Round(cpus, 2) && (cpus >= 0.05m || (cpus == 0 && admin)))
                return cpus.ToString("0.##", CultureInfo.InvariantCulture);
            return Fault("cpus", text, admin ? "a number from 0.05, or 0 for no limit" : "a number from 0.05");
        }

        string? Check(string name, string? text, Func<string, bool> valid, string hint) =>
            text is null || valid(text) ? text : Fault(name, text, hint);

        string? Fault(string name, string text, string hint)
        {
            var shown = new string([.. text.Take(40).Where(c => !char.IsControl(c))]);
            faults.Add($"{name} is '{shown}': give {hint}");
            return null;
        }
    }

    public static AppSettings Read(string json) => Postgres.FromJson(json, AppoxyJson.Default.AppSettings);

    /// <summary>The settings in force: those set, and the defaults for the others.</summary>
    public static AppSettings InForce(string json)
    {
        var stored = Read(json);
        return new AppSettings
        {
            PauseAfter = stored.PauseAfter ?? Defaults.PauseAfter,
            SnoozeAfter = stored.SnoozeAfter ?? Defaults.SnoozeAfter,
            StartTimeout = stored.StartTimeout ?? Defaults.StartTimeout,
            Health = stored.Health ?? Defaults.Health,
            Memory = stored.Memory ?? Defaults.Memory,
            Cpus = stored.Cpus ?? Defaults.Cpus,
            Port = stored.Port ?? Defaults.Port,
        };
    }

    public static DroidPolicy Policy(AppSettings s) => new(
        s.Health == "tcp" ? null : s.Health, Seconds(s.StartTimeout), Seconds(s.PauseAfter), Seconds(s.SnoozeAfter));

    public static DroidLimits Limits(AppSettings s) => new(
        Quantities.TryParseBytes(s.Memory, out var bytes) ? bytes : throw new FormatException($"memory '{s.Memory}' is stored"),
        double.Parse(s.Cpus!, CultureInfo.InvariantCulture));

    public static int? Port(AppSettings s) => s.Port == "auto" ? null : int.Parse(s.Port!, CultureInfo.InvariantCulture);

    private static int Seconds(string? text) =>
        Quantities.TryParseSeconds(text, out var seconds) ? seconds : throw new FormatException($"duration '{text}' is stored");

    private static bool IsPort(string text) =>
        text == "auto" || (text.Length <= 5 && ushort.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var port)
            && port > 0);

    private static bool IsHealth(string text) =>
        text == "tcp" || (text.Length is > 0 and <= 1000 && text[0] == '/' && !text.StartsWith("//", StringComparison.Ordinal)
            && text.All(c => c is > ' ' and < '\x7f' and not ('#' or '\\' or '"' or '<' or '>')));
}
