using System.Text.RegularExpressions;

namespace Appoxy.Droidd.Builds;

/// <summary>
/// The <c>Procfile</c> in the top folder of a source: a line <c>type: command</c> for each process type, as Heroku and Dokku read it.
/// Where the source has a <c>Dockerfile</c>, a shell in the image runs the commands; where it has not, buildpacks see to them.
/// </summary>
internal static partial class Procfile
{
    private const long LongestFile = 64 << 10;
    private const int LongestCommand = 8 << 10;
    private const int MaxTypes = 20;

    /// <summary>The process types of a source, <c>web</c> first: without a line for it, it is the image's own command.</summary>
    /// <exception cref="BuildException">It is no regular file, too long, or names a type twice.</exception>
    public static async Task<IReadOnlyList<ProcessType>> ReadAsync(string folder, BuildLog log, CancellationToken cancel)
    {
        var file = new FileInfo(Path.Combine(folder, "Procfile"));
        if (!file.Exists && file.LinkTarget is null)
            return [new ProcessType(ProcessType.Web)];
        // A link could lead to what is not the app's.
        if (file is not { LinkTarget: null, Exists: true, Length: <= LongestFile })
            throw Refused("it must be a file of 64 kB at most");
        var types = Parse(await File.ReadAllTextAsync(file.FullName, cancel), line => log.Say($"       Procfile: line {line} is no 'type: command'; it is left out"));
        log.Say($"-----> Process types: {string.Join(", ", types.Select(t => t.Type))}");
        return types;
    }

    /// <summary>The process types in a Procfile's text.</summary>
    /// <param name="text">The text; blank lines and those that begin with # say nothing.</param>
    /// <param name="skipped">Told of each line that is neither, by its number.</param>
    /// <exception cref="BuildException">A type is named twice, or there are too many.</exception>
    internal static IReadOnlyList<ProcessType> Parse(string text, Action<int> skipped)
    {
        var types = new Dictionary<string, ProcessType>(StringComparer.Ordinal);
        var number = 0;
        foreach (var line in text.TrimStart('\ufeff').Split('\n').Select(l => l.Trim()))
        {
            number++;
            if (line.Length == 0 || line[0] == '#')
                continue;
            var entry = Entry().Match(line);
            var (type, command) = (entry.Groups["type"].Value, entry.Groups["command"].Value);
            if (!entry.Success || !Names.IsProcessType(type) || command.Length > LongestCommand || command.Contains('\0', StringComparison.Ordinal))
                skipped(number);
            else if (!types.TryAdd(type, new ProcessType(type, command)))
                throw Refused($"line {number} names {type} a second time");
        }
        types.TryAdd(ProcessType.Web, new ProcessType(ProcessType.Web));
        return types.Count <= MaxTypes ? InOrder(types.Values) : throw Refused($"it names more than {MaxTypes} process types");
    }

    /// <summary>As they are shown and stored: <c>web</c> first, the others by name.</summary>
    public static IReadOnlyList<ProcessType> InOrder(IEnumerable<ProcessType> types) =>
        [.. types.OrderBy(t => t.Type != ProcessType.Web).ThenBy(t => t.Type, StringComparer.Ordinal)];

    private static BuildException Refused(string why) => new(FailureReasons.Source, "Procfile: " + why);

    [GeneratedRegex(@"\A(?<type>[A-Za-z0-9_-]+)\s*:\s*(?<command>\S.*)\z", RegexOptions.Singleline)]
    private static partial Regex Entry();
}
