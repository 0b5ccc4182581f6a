using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;

namespace Appoxy;

/// <summary>The names that travel between routerd, droidd and both nginxes, and what each may look like.</summary>
public static partial class Names
{
    /// <summary>Longest hostname that is routed, in bytes, as RFC 1035 bounds it.</summary>
    public const int MaxHostname = 253;

    /// <summary>A new uid: 7 characters <c>[a-z2-7]</c>, the first a letter.</summary>
    public static string NewUid() =>
        RandomNumberGenerator.GetString("abcdefghijklmnopqrstuvwxyz", 1)
        + RandomNumberGenerator.GetString("abcdefghijklmnopqrstuvwxyz234567", 6);

    /// <summary>Whether <paramref name="text"/> is an app's uid.</summary>
    public static bool IsUid([NotNullWhen(true)] string? text) => text is not null && Uid().IsMatch(text);

    /// <summary>Whether <paramref name="text"/> may name an app: one DNS label of 2 to 40 characters that starts with a letter.</summary>
    public static bool IsAppName([NotNullWhen(true)] string? text) => text is not null && App().IsMatch(text);

    /// <summary>Whether <paramref name="text"/> may name a droid-server, as <c>ds1</c>.</summary>
    public static bool IsServerName([NotNullWhen(true)] string? text) => text is not null && Server().IsMatch(text);

    /// <summary>Whether <paramref name="text"/> may name a process type, as <c>web</c>.</summary>
    public static bool IsProcessType([NotNullWhen(true)] string? text) => text is not null && Process().IsMatch(text);

    /// <summary>Whether <paramref name="text"/> may name an environment variable.</summary>
    public static bool IsEnvName([NotNullWhen(true)] string? text) => text is not null && Env().IsMatch(text);

    /// <summary>
    /// Brings a hostname to the one form that is stored and looked up: lower case, IDNA A-labels, no final dot.
    /// A first label <c>*</c> is allowed where <paramref name="allowWildcard"/> is set. False for anything else
    /// that is not a DNS name of at least two labels; an address or a port is no hostname.
    /// </summary>
    public static bool TryNormalizeHost(string? text, [NotNullWhen(true)] out string? host, bool allowWildcard = false)
    {
        host = null;
        if (string.IsNullOrEmpty(text) || text.Length > 1024)
            return false;
        var wildcard = allowWildcard && text.StartsWith("*.", StringComparison.Ordinal);
        var name = wildcard ? text[2..] : text;
        if (name.EndsWith('.'))
            name = name[..^1];
        // What shows as nothing, or turns the text around, is no part of a name that somebody reads.
        if (!name.EnumerateRunes().All(IsHostRune))
            return false;
        try
        {
            name = new IdnMapping { AllowUnassigned = false, UseStd3AsciiRules = true }.GetAscii(name.ToLowerInvariant());
        }
        catch (ArgumentException)
        {
            return false;
        }
        if (!Host().IsMatch(name) || name.Length + (wildcard ? 2 : 0) > MaxHostname)
            return false;
        host = wildcard ? "*." + name : name;
        return true;
    }

    // Not the combining accents: browsers compose them with their letter, which needs tables that we don't have.
    private static bool IsHostRune(Rune rune) => rune.Value is '-' or '.' || rune.Value is not (>= 0x300 and <= 0x36f) && Rune.GetUnicodeCategory(rune) is
        UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter
        or UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.DecimalDigitNumber;

    [GeneratedRegex(@"\A[a-z][a-z2-7]{6}\z")]
    private static partial Regex Uid();

    [GeneratedRegex(@"\A[a-z](?:[a-z0-9]|-(?!-)){0,38}[a-z0-9]\z")]
    private static partial Regex App();

    [GeneratedRegex(@"\A[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?\z")]
    private static partial Regex Server();

    [GeneratedRegex(@"\A[A-Za-z0-9][A-Za-z0-9_-]{0,29}\z")]
    private static partial Regex Process();

    [GeneratedRegex(@"\A[A-Za-z_][A-Za-z0-9_]{0,127}\z")]
    private static partial Regex Env();

    [GeneratedRegex(@"\A(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?\z")]
    private static partial Regex Host();
}
