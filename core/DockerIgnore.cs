using System.Text;
using System.Text.RegularExpressions;

namespace Appoxy;

/// <summary>
/// The rules of a <c>.dockerignore</c>, as Docker reads them: Go's file patterns with <c>**</c> for any number of folders, anchored
/// at the top folder; the last rule that matches a path or one of its parents decides, and <c>!</c> takes it back in.
/// </summary>
public sealed class DockerIgnore
{
    private const int MaxRules = 10_000;
    private readonly List<(Regex Pattern, bool Exception)> rules = [];

    /// <summary>No rules: nothing is left out.</summary>
    public static DockerIgnore None { get; } = new([]);

    /// <exception cref="FormatException">A line is no pattern.</exception>
    public DockerIgnore(IEnumerable<string> lines)
    {
        foreach (var line in lines)
        {
            var text = line.Trim().TrimStart('\ufeff');
            if (text.Length == 0 || line.StartsWith('#'))
                continue;
            var exception = text[0] == '!';
            var pattern = Clean(exception ? text[1..].Trim() : text);
            if (pattern.Length == 0 || rules.Count == MaxRules)
                throw new FormatException(
                    pattern.Length == 0 ? $".dockerignore: '{text}' is no pattern" : $".dockerignore: more than {MaxRules} rules");
            try
            {
                // What matches a folder matches all below it.
                rules.Add((new Regex($@"\A(?:{Expression(pattern)})(?:/.*)?\z",
                    RegexOptions.NonBacktracking | RegexOptions.Singleline), exception));
            }
            catch (ArgumentException)
            {
                throw new FormatException($".dockerignore: '{text}' is no pattern");
            }
        }
    }

    /// <summary>The rules of the <c>.dockerignore</c> in a folder; none where it has no such file.</summary>
    /// <exception cref="FormatException">A line is no pattern.</exception>
    public static DockerIgnore Of(string folder) =>
        // A link could show the rules of another folder, or any file's text in a fault.
        new FileInfo(Path.Combine(folder, ".dockerignore")) is { Exists: true, LinkTarget: null, Length: < 1 << 20 } file
            ? new(File.ReadLines(file.FullName)) : None;

    /// <summary>Whether a rule takes something back in, so that what lies in a folder that is left out may still be wanted.</summary>
    public bool HasExceptions => rules.Exists(r => r.Exception);

    /// <summary>Whether a path, relative to the top folder and with slashes, is left out. The build's own two files never are.</summary>
    public bool Excludes(string path)
    {
        if (path is "Dockerfile" or ".dockerignore")
            return false;
        var excluded = false;
        foreach (var (pattern, exception) in rules)
        {
            // Only a rule that would turn the outcome needs to be asked.
            if (exception == excluded && pattern.IsMatch(path))
                excluded = !exception;
        }
        return excluded;
    }

    /// <summary>A pattern without <c>.</c>, <c>..</c>, doubled slashes and a leading one, as Go's <c>filepath.Clean</c> has it.</summary>
    private static string Clean(string pattern)
    {
        var parts = new List<string>();
        foreach (var part in pattern.Split('/'))
        {
            if (part == ".." && parts is [.., not ".."])
                parts.RemoveAt(parts.Count - 1);
            else if (part is not ("" or "." or ".."))
                parts.Add(part);
        }
        // Nobody may leave out the whole folder by ".", as nothing would be left to build.
        return parts.Count == 0 && pattern.Trim('/', '.').Length == 0 && pattern.Length > 0 ? "\0" : string.Join('/', parts);
    }

    private static string Expression(string pattern)
    {
        var text = new StringBuilder();
        for (var i = 0; i < pattern.Length; i++)
        {
            var c = pattern[i];
            if (c == '*' && i + 1 < pattern.Length && pattern[i + 1] == '*')
            {
                i++;
                if (i + 1 < pattern.Length && pattern[i + 1] == '/')
                {
                    i++;
                    text.Append(i + 1 == pattern.Length ? ".*" : "(?:.*/)?");
                }
                else
                {
                    // Docker's own quirk: **x is any end in x, but x**y needs a slash before y.
                    var rest = pattern.AsSpan(i + 1);
                    text.Append(rest.IsEmpty || (i == 1 && !rest.ContainsAny("*?[\\")) ? ".*" : "(?:.*/)?");
                }
            }
            else if (c == '*')
            {
                text.Append("[^/]*");
            }
            else if (c == '?')
            {
                text.Append("[^/]");
            }
            else if (c == '[' && pattern.IndexOf(']', i + 2 < pattern.Length ? i + 2 : i) is > 0 and var end)
            {
                var others = pattern[i + 1] is '^' or '!';
                var set = pattern[(others ? i + 2 : i + 1)..end]
                    .Replace("\\", "\\\\", StringComparison.Ordinal).Replace("[", "\\[", StringComparison.Ordinal);
                text.Append(others ? "[^" : "[").Append(set).Append(']');
                i = end;
            }
            else if (c == '[')
            {
                throw new ArgumentException("no end of the set");
            }
            else
            {
                if (c == '\\' && i + 1 < pattern.Length)
                    c = pattern[++i];
                text.Append(Regex.Escape(c.ToString()));
            }
        }
        return text.ToString();
    }
}
