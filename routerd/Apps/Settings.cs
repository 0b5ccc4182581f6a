using System.Globalization;
using Appoxy.Routerd.Database;

namespace Appoxy.Routerd.Apps;

/// <summary>An app's settings as they are stored, only those that were set, and what becomes of them in its spec.</summary>
internal static class Settings
{
    /// <summary>What is stored after <paramref name="change"/>; null members of it keep what is.</summary>
    /// <exception cref="Problem">400, with a line that names each setting at fault.</exception>
    public static AppSettings Merge(AppSettings stored, AppSettings change, bool admin)
    {
        var faults = new List<string>();
        foreach (var rule in AppSetting.All)
        {
            if (rule.Of(change) is not { } text)
                continue;
            if (rule.Normalize(text) is { } value && (value != "0" || admin || !rule.ZeroIsForAdmins))
                stored = rule.With(stored, value);
            else
                faults.Add($"{rule.Member} is '{Shown(text)}': give {rule.Example}{(rule.ZeroIsForAdmins && !admin ? ", which admins may" : "")}");
        }
        return faults.Count == 0 ? stored : throw Problem.BadRequest(string.Join("; ", faults) + ".");
    }

    private static string Shown(string text) => new([.. text.Take(40).Where(c => !char.IsControl(c))]);

    public static AppSettings Read(string json) => Postgres.FromJson(json, AppoxyJson.Default.AppSettings);

    /// <summary>The settings in force: those set, and the defaults for the others.</summary>
    public static AppSettings InForce(string json) => AppSetting.InForce(Read(json));

    public static DroidPolicy Policy(AppSettings s) => new(
        s.Health == "tcp" ? null : s.Health, Seconds(s.StartTimeout), Seconds(s.PauseAfter), Seconds(s.SnoozeAfter),
        s.SnoozeWorkers == "on", s.Wake == "page", s.KeepAwake == "off" ? null : s.KeepAwake);

    public static DroidLimits Limits(AppSettings s) => new(
        Bytes(s.Memory), double.Parse(s.Cpus!, CultureInfo.InvariantCulture), long.Parse(s.Pids!, CultureInfo.InvariantCulture),
        Bytes(s.Disk), s.ReadOnly == "on");

    public static int? Port(AppSettings s) => s.Port == "auto" ? null : int.Parse(s.Port!, CultureInfo.InvariantCulture);

    /// <summary>The branches whose pushes are deployed, the first that is pushed.</summary>
    public static IReadOnlyList<string> Branches(AppSettings s) => s.Branch == "auto" ? ["main", "master"] : [s.Branch!];

    public static IReadOnlyList<string> Buildpacks(AppSettings s) => s.Buildpacks == "none" ? [] : s.Buildpacks!.Split(',');

    private static long Bytes(string? text) =>
        Quantities.TryParseBytes(text, out var bytes) ? bytes : throw new FormatException($"size '{text}' is stored");

    private static int Seconds(string? text) =>
        Quantities.TryParseSeconds(text, out var seconds) ? seconds : throw new FormatException($"duration '{text}' is stored");
}
