using System.Text.RegularExpressions;

namespace Appoxy;

/// <summary>What an app asks of the droid-server that it is placed on.</summary>
/// <param name="Key">A label, or <c>server</c> for the server's name.</param>
/// <param name="Value">The label's value.</param>
/// <param name="Not">Whether the server must not have it.</param>
public sealed record Constraint(string Key, string Value, bool Not = false)
{
    public override string ToString() => $"{Key}{(Not ? "!=" : "=")}{Value}";
}

/// <summary>Labels of droid-servers, and constraints on them: <c>zone=eu,disk!=slow</c>.</summary>
public static partial class Labels
{
    /// <summary>The key that every server has by itself: its name.</summary>
    public const string Server = "server";

    public const int Most = 50;
    private const int MostConstraints = 20;

    public static bool IsKey(string? text) => text is not null && Key().IsMatch(text);

    public static bool IsValue(string? text) => text is not null && Value().IsMatch(text);

    /// <summary>The constraints in a text, none for <c>none</c>; null if it is no such text.</summary>
    public static IReadOnlyList<Constraint>? Parse(string? text)
    {
        if (text == "none")
            return [];
        if (text is null or { Length: > 1000 } || text.Split(',', StringSplitOptions.TrimEntries) is not { Length: <= MostConstraints } parts)
            return null;
        var constraints = new List<Constraint>();
        foreach (var part in parts)
        {
            var at = part.IndexOf('=', StringComparison.Ordinal);
            var not = at > 0 && part[at - 1] == '!';
            if (at < 1 || !IsKey(part[..(not ? at - 1 : at)]) || !IsValue(part[(at + 1)..]))
                return null;
            constraints.Add(new Constraint(part[..(not ? at - 1 : at)], part[(at + 1)..], not));
        }
        return constraints;
    }

    [GeneratedRegex(@"\A[a-z][a-z0-9._/-]{0,62}\z")]
    private static partial Regex Key();

    [GeneratedRegex(@"\A[A-Za-z0-9._-]{1,63}\z")]
    private static partial Regex Value();
}
