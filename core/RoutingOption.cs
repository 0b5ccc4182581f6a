using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace Appoxy;

/// <summary>
/// One of an app's routing options, and the rule for its value: the same in the CLI, which checks early, and in routerd, which
/// decides. <c>off</c> is a value of each.
/// </summary>
/// <param name="Name">As users write it: <c>max-body</c>.</param>
/// <param name="Member">Its member in <see cref="AppRouting"/>'s JSON: <c>maxBody</c>.</param>
/// <param name="Example">What a value looks like, as in "give …".</param>
/// <param name="Normalize">The one form of a value other than off, or null if it is none.</param>
/// <param name="Of">Its value in some routing; null if not set there.</param>
/// <param name="With">Some routing with another value of it.</param>
public sealed partial record RoutingOption(
    string Name,
    string Member,
    string Example,
    Func<string, string?> Normalize,
    Func<AppRouting, string?> Of,
    Func<AppRouting, string?, AppRouting> With)
{
    /// <summary>The value that clears an option.</summary>
    public const string Off = "off";

    /// <summary>The most that a page of the app's own may have, in bytes of UTF-8.</summary>
    public const int MaxPage = 32 << 10;

    /// <summary>How many response headers an app may set.</summary>
    public const int MaxHeaders = 20;

    private const int MaxNetworks = 200;
    private const int MaxUsers = 20;

    /// <summary>Headers that frame an answer, belong to one hop, or steer what stands between app and visitor.</summary>
    private static readonly HashSet<string> OursAlone = new(StringComparer.OrdinalIgnoreCase)
    {
        "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Connection", "TE", "Trailer",
        "Transfer-Encoding", "Upgrade", "Content-Length", "Content-Encoding", "Content-Range", "Content-Type", "Date", "Server", "Status",
        "Location", "Refresh", "Set-Cookie", "WWW-Authenticate", "Age", "ETag", "Last-Modified", "Accept-Ranges",
    };

    /// <summary>All options but the response headers, in the order in which they are shown.</summary>
    public static IReadOnlyList<RoutingOption> All { get; } =
    [
        new("force-https", "forceHttps", "on or off", On, r => r.ForceHttps, (r, v) => r with { ForceHttps = v }),
        new("www", "www", "to-apex, to-www or off", v => v is "to-apex" or "to-www" ? v : null, r => r.Www, (r, v) => r with { Www = v }),
        new("maintenance", "maintenance", "on or off", On, r => r.Maintenance, (r, v) => r with { Maintenance = v }),
        new("maintenance-page", "maintenancePage", "HTML of at most 32 kB, or off", Page,
            r => r.MaintenancePage, (r, v) => r with { MaintenancePage = v }) { IsPage = true },
        new("error-page", "errorPage", "HTML of at most 32 kB, or off", Page,
            r => r.ErrorPage, (r, v) => r with { ErrorPage = v }) { IsPage = true },
        new("auth", "auth", "up to 20 user names such as alice,bob, or off", Users, r => r.Auth, (r, v) => r with { Auth = v }),
        new("allow-ips", "allowIps", "up to 200 networks such as 10.0.0.0/8,2001:db8::/32, or off", AllowIps,
            r => r.AllowIps, (r, v) => r with { AllowIps = v }),
        new("max-body", "maxBody", "a size such as 10m, or off", MaxBodySize, r => r.MaxBody, (r, v) => r with { MaxBody = v }),
        new("read-timeout", "readTimeout", "a time from 1s to 1h, or off", Time, r => r.ReadTimeout, (r, v) => r with { ReadTimeout = v }),
        new("send-timeout", "sendTimeout", "a time from 1s to 1h, or off", Time, r => r.SendTimeout, (r, v) => r with { SendTimeout = v }),
        new("rate-limit", "rateLimit", "a rate such as 10r/s, 300r/m or 10r/s,burst=50, or off",
            v => TryParseRate(v, out var count, out var seconds, out var burst) ? FormatRate(count, seconds, burst) : null,
            r => r.RateLimit, (r, v) => r with { RateLimit = v }),
        new("canary", "canary", "another app and its percentage such as shop-next:10, or off",
            v => TryParseCanary(v, out var app, out var percent) ? $"{app}:{percent}" : null, r => r.Canary, (r, v) => r with { Canary = v }),
    ];

    /// <summary>Whether a value is a page of HTML, which is given by file and shown by its size.</summary>
    public bool IsPage { get; private init; }

    /// <summary>The networks or users of a value in its one form.</summary>
    public static string[] List(string text) => text.Split(',');

    /// <summary>Reads <c>10r/s,burst=50</c>; the burst is a second's worth where it is left out.</summary>
    public static bool TryParseRate(string? text, out int count, out int seconds, out int burst)
    {
        (count, seconds, burst) = (0, 0, 0);
        if (text is null || Rate().Match(text) is not { Success: true } match)
            return false;
        count = int.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture);
        seconds = match.Groups[2].Value == "m" ? 60 : 1;
        burst = match.Groups[3].Success ? int.Parse(match.Groups[3].ValueSpan, CultureInfo.InvariantCulture) : Math.Max(1, count / seconds);
        return count > 0;
    }

    public static string FormatRate(int count, int seconds, int burst) => $"{count}r/{(seconds == 60 ? 'm' : 's')},burst={burst}";

    /// <summary>Reads <c>shop-next:10</c>: the other app, and the percentage of visitors that it gets, 1 to 100.</summary>
    public static bool TryParseCanary(string? text, out string app, out int percent)
    {
        (app, percent) = ("", 0);
        if (text is null || text.Split(':') is not [var name, var share] || !Names.IsAppName(name)
            || !int.TryParse(share, NumberStyles.None, CultureInfo.InvariantCulture, out percent) || percent is < 1 or > 100)
            return false;
        app = name;
        return true;
    }

    /// <summary>What is wrong with a response header; null if nothing.</summary>
    public static string? HeaderFault(string name, string value)
    {
        if (!HeaderName().IsMatch(name))
            return "a header's name has up to 64 letters, digits and dashes, and starts with a letter";
        if (OursAlone.Contains(name) || name.StartsWith("X-Accel-", StringComparison.OrdinalIgnoreCase)
            || name.StartsWith("X-Appoxy-", StringComparison.OrdinalIgnoreCase))
            return $"{name} is set by the app or by Appoxy alone";
        return value.Length <= 1024 && value.All(c => c is >= ' ' and <= '~') ? null
            : $"the value of {name} has up to 1024 characters of printable ASCII";
    }

    /// <summary>What is wrong with a password; null if nothing. The password itself is in no message.</summary>
    public static string? PasswordFault(string? password) =>
        password is { Length: >= 8 and <= 128 } && !password.Any(char.IsControl) ? null
            : "a password has 8 to 128 characters, none of them a control character";

    private static string? On(string text) => text == "on" ? text : null;

    // NUL can't be stored; the rest is up to the app's owner, who could as well serve it.
    private static string? Page(string text) =>
        !string.IsNullOrWhiteSpace(text) && !text.Contains('\0', StringComparison.Ordinal) && Encoding.UTF8.GetByteCount(text) <= MaxPage
            && IsWhole(text) ? text : null;

    /// <summary>Half a surrogate pair is no text, and can't be stored.</summary>
    private static bool IsWhole(string text)
    {
        for (var at = 0; at < text.Length; at += char.IsSurrogate(text[at]) ? 2 : 1)
            if (char.IsSurrogate(text[at]) && (at + 1 == text.Length || !char.IsSurrogatePair(text[at], text[at + 1])))
                return false;
        return true;
    }

    private static string? Users(string text)
    {
        var users = text.Length <= 2000 ? text.Split(',', StringSplitOptions.TrimEntries) : [];
        return users.Length is > 0 and <= MaxUsers && users.All(u => User().IsMatch(u)) && users.Distinct().Count() == users.Length
            ? string.Join(',', users) : null;
    }

    private static string? AllowIps(string text)
    {
        var networks = text.Length <= 20_000 ? text.Split(',', StringSplitOptions.TrimEntries) : [];
        if (networks.Length is 0 or > MaxNetworks)
            return null;
        var normal = new List<string>(networks.Length);
        foreach (var network in networks)
        {
            if (!Networks.TryNormalize(network, out var one))
                return null;
            normal.Add(one);
        }
        return string.Join(',', normal.Distinct());
    }

    private static string? MaxBodySize(string text) =>
        Quantities.TryParseBytes(text, out var bytes) && bytes > 0 ? Quantities.FormatBytes(bytes) : null;

    private static string? Time(string text) =>
        Quantities.TryParseSeconds(text, out var seconds) && seconds is >= 1 and <= 3600 ? Quantities.FormatSeconds(seconds) : null;

    [GeneratedRegex(@"\A([0-9]{1,5})r/([sm])(?:,burst=([0-9]{1,5}))?\z")]
    private static partial Regex Rate();

    // No colon, which ends the name in what a browser sends; "off" clears.
    [GeneratedRegex(@"\A(?!off\z)[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\z")]
    private static partial Regex User();

    [GeneratedRegex(@"\A[A-Za-z][A-Za-z0-9-]{0,63}\z")]
    private static partial Regex HeaderName();
}
