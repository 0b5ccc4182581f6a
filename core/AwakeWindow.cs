using System.Globalization;
using System.Text.RegularExpressions;

namespace Appoxy;

/// <summary>
/// A time of the week in which an app is kept awake, as users write it: <c>Mon-Fri 08:00-18:00 Europe/Berlin</c>. Without days it is
/// each day's, without a zone UTC's. An end that is not after the start is the next day's.
/// </summary>
public sealed partial class AwakeWindow
{
    private const int Most = 20;
    private static readonly string[] Days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

    private readonly int firstDay;
    private readonly int lastDay;
    private readonly TimeSpan from;
    private readonly TimeSpan to;
    private readonly TimeZoneInfo zone;
    private readonly string text;

    private AwakeWindow(Match match, TimeZoneInfo zone)
    {
        this.zone = zone;
        var (first, last) = (match.Groups["first"], match.Groups["last"]);
        firstDay = first.Success ? Day(first.Value) : 0;
        lastDay = last.Success ? Day(last.Value) : first.Success ? firstDay : 6;
        (from, to) = (Time(match.Groups["from"].Value), Time(match.Groups["to"].Value));
        var days = !first.Success ? "" : (firstDay == lastDay ? Days[firstDay] : $"{Days[firstDay]}-{Days[lastDay]}") + " ";
        text = $"{days}{Form(from)}-{Form(to)} {zone.Id}";
    }

    /// <summary>The windows in a text, separated by commas; null if it is none.</summary>
    public static IReadOnlyList<AwakeWindow>? Parse(string text)
    {
        var parts = text.Split(',', StringSplitOptions.TrimEntries);
        if (parts.Length > Most)
            return null;
        var windows = new List<AwakeWindow>();
        foreach (var part in parts)
        {
            if (Form().Match(part) is not { Success: true } match
                || !TimeZoneInfo.TryFindSystemTimeZoneById(match.Groups["zone"] is { Success: true } named ? named.Value : "UTC", out var zone)
                || new AwakeWindow(match, zone) is not { } window || window.from == window.to)
                return null;
            windows.Add(window);
        }
        return windows;
    }

    /// <summary>Whether a moment lies in the window.</summary>
    public bool Contains(DateTimeOffset moment)
    {
        var today = TimeZoneInfo.ConvertTime(moment, zone).Date;
        return Holds(today) || Holds(today.AddDays(-1));

        bool Holds(DateTime day) => (firstDay <= lastDay ? (int)day.DayOfWeek >= firstDay && (int)day.DayOfWeek <= lastDay
                : (int)day.DayOfWeek >= firstDay || (int)day.DayOfWeek <= lastDay)
            && Moment(day + from, late: false) <= moment && moment < Moment(day + to + (to <= from ? TimeSpan.FromDays(1) : default), late: true);
    }

    /// <summary>
    /// The moment that clocks of the zone show a time. Of one that is skipped when they go forward, when they go on; of one that they
    /// show twice when they go back, the first or the last.
    /// </summary>
    private DateTimeOffset Moment(DateTime local, bool late)
    {
        while (zone.IsInvalidTime(local))
            local = local.AddMinutes(1);
        if (!zone.IsAmbiguousTime(local))
            return new DateTimeOffset(local, zone.GetUtcOffset(local));
        var offsets = zone.GetAmbiguousTimeOffsets(local);
        return new DateTimeOffset(local, late ? offsets.Min() : offsets.Max());
    }

    /// <summary>Its normal form, which reads back as the same.</summary>
    public override string ToString() => text;

    private static int Day(string text) => Array.FindIndex(Days, d => d.Equals(text, StringComparison.OrdinalIgnoreCase));

    private static TimeSpan Time(string text) =>
        new(int.Parse(text.AsSpan(0, 2), CultureInfo.InvariantCulture), int.Parse(text.AsSpan(3), CultureInfo.InvariantCulture), 0);

    private static string Form(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{(int)time.TotalHours:00}:{time.Minutes:00}");

    [GeneratedRegex("""
        \A((?<first>Sun|Mon|Tue|Wed|Thu|Fri|Sat)(-(?<last>Sun|Mon|Tue|Wed|Thu|Fri|Sat))?\ +)?
        (?<from>([01][0-9]|2[0-3]):[0-5][0-9])-(?<to>([01][0-9]|2[0-3]):[0-5][0-9]|24:00)
        (\ +(?<zone>[A-Za-z][A-Za-z0-9_+-]{0,30}(/[A-Za-z0-9_+-]{1,30}){0,2}))?\z
        """, RegexOptions.IgnoreCase | RegexOptions.IgnorePatternWhitespace | RegexOptions.CultureInvariant)]
    private static partial Regex Form();
}
