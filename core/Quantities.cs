using System.Globalization;
using System.Text.RegularExpressions;

namespace Appoxy;

/// <summary>Reads and writes the quantities of settings: durations such as <c>90s</c>, <c>5m</c>, <c>1h</c> and sizes such as <c>256m</c>.</summary>
public static partial class Quantities
{
    private const long DayInSeconds = 86_400;

    /// <summary>Seconds in <paramref name="text"/>; a bare number is seconds, <c>0</c> means never. At most 365 days.</summary>
    public static bool TryParseSeconds(string? text, out int seconds)
    {
        seconds = 0;
        if (text is null || Duration().Match(text) is not { Success: true } match)
            return false;
        var unit = match.Groups[2].Value switch { "m" => 60, "h" => 3600, "d" => DayInSeconds, _ => 1 };
        if (!long.TryParse(match.Groups[1].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture, out var count)
            || count > 365 * DayInSeconds / unit)
            return false;
        seconds = (int)(count * unit);
        return true;
    }

    /// <summary>A moment in the past: an age such as <c>10m</c>, or a time such as <c>2026-11-25T10:00:00Z</c>, UTC where it names no zone.</summary>
    public static bool TryParseMoment(string? text, DateTimeOffset now, out DateTimeOffset moment)
    {
        moment = now;
        if (TryParseSeconds(text, out var seconds))
        {
            moment = now.AddSeconds(-seconds);
            return seconds > 0;
        }
        return text is { Length: >= 19 and <= 40 } && DateTimeOffset.TryParseExact(text,
            ["yyyy-MM-ddTHH:mm:ssK", "yyyy-MM-ddTHH:mm:ss.FFFFFFFK"], CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out moment);
    }

    /// <summary>The shortest form that reads back as the same number of seconds.</summary>
    public static string FormatSeconds(int seconds) => seconds switch
    {
        0 => "0",
        _ when seconds % 3600 == 0 => $"{seconds / 3600}h",
        _ when seconds % 60 == 0 => $"{seconds / 60}m",
        _ => $"{seconds}s",
    };

    /// <summary>Bytes in <paramref name="text"/>, with the binary units k, m and g. At most 1 TiB.</summary>
    public static bool TryParseBytes(string? text, out long bytes)
    {
        bytes = 0;
        if (text is null || Size().Match(text.ToLowerInvariant()) is not { Success: true } match)
            return false;
        var shift = match.Groups[2].Value switch { "k" => 10, "m" => 20, "g" => 30, _ => 0 };
        if (!long.TryParse(match.Groups[1].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture, out var count)
            || count > (1L << 40) >> shift)
            return false;
        bytes = count << shift;
        return true;
    }

    /// <summary>The shortest form that reads back as the same number of bytes.</summary>
    public static string FormatBytes(long bytes) => bytes switch
    {
        0 => "0",
        _ when bytes % (1L << 30) == 0 => $"{bytes >> 30}g",
        _ when bytes % (1L << 20) == 0 => $"{bytes >> 20}m",
        _ when bytes % (1L << 10) == 0 => $"{bytes >> 10}k",
        _ => bytes.ToString(CultureInfo.InvariantCulture),
    };

    [GeneratedRegex(@"\A([0-9]{1,10})([smhd]?)\z")]
    private static partial Regex Duration();

    [GeneratedRegex(@"\A([0-9]{1,13})([kmg]?)b?\z")]
    private static partial Regex Size();
}
