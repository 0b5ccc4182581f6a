using Tomlyn;
using Tomlyn.Model;

namespace Appoxy.Droidd.Builds;

/// <summary>
/// An app's <c>project.toml</c>, which pack reads. It may name further buildpacks by address, and pack would fetch them from where it
/// runs: from this machine's files and networks.
/// </summary>
internal static class ProjectDescriptor
{
    private const long LongestFile = 1 << 20;

    /// <summary>The file's path; null where there is none.</summary>
    /// <exception cref="BuildException">It is broken, or names what may not be read from here.</exception>
    public static async Task<string?> FindAsync(string folder, bool allowPrivate, CancellationToken cancel)
    {
        var file = new FileInfo(Path.Combine(folder, "project.toml"));
        if (!Path.Exists(file.FullName) && file.LinkTarget is null)
            return null;
        if (file is not { LinkTarget: null, Exists: true, Length: <= LongestFile })
            throw Refused("it must be a file of 1 MiB at most");
        TomlTable? table;
        try
        {
            table = TomlSerializer.Deserialize<TomlTable>(await File.ReadAllTextAsync(file.FullName, cancel));
        }
        catch (TomlException e)
        {
            throw Refused(e.Message.ReplaceLineEndings(" "));
        }
        foreach (var uri in Addresses(table))
            await CheckAsync(folder, uri, allowPrivate, cancel);
        return file.FullName;
    }

    private static IEnumerable<string> Addresses(object? node) => node switch
    {
        // pack does not mind the case of keys.
        TomlTable table => table.SelectMany(e =>
            e.Key.Equals("uri", StringComparison.OrdinalIgnoreCase) && e.Value is string uri ? [uri] : Addresses(e.Value)),
        TomlTableArray tables => tables.SelectMany(Addresses),
        TomlArray array => array.SelectMany(Addresses),
        _ => [],
    };

    private static async Task CheckAsync(string folder, string uri, bool allowPrivate, CancellationToken cancel)
    {
        var shown = new string([.. uri.Take(100).Where(c => !char.IsControl(c))]);
        if (uri.StartsWith("urn:", StringComparison.Ordinal) || uri.StartsWith("docker://", StringComparison.Ordinal)
            || uri.StartsWith("from=", StringComparison.Ordinal))
            return;
        if (uri.Contains("://", StringComparison.Ordinal))
        {
            if (!allowPrivate && (!Uri.TryCreate(uri, UriKind.Absolute, out var address) || address.Scheme is not ("http" or "https")))
                throw Refused($"'{shown}' is no address that may be read from here");
            if (!allowPrivate)
                await GitSourceCheck.RequirePublicAsync(uri, cancel);
            return;
        }
        var parts = uri.Split('/');
        if (Path.IsPathRooted(uri) || parts.Contains(".."))
            throw Refused($"'{shown}' leads out of the app's folder");
        for (var depth = 1; depth <= parts.Length; depth++)
        {
            if (new FileInfo(Path.Combine(folder, Path.Combine(parts[..depth]))).LinkTarget is not null)
                throw Refused($"'{shown}' goes through a link");
        }
    }

    private static BuildException Refused(string why) => new(FailureReasons.Source, "project.toml: " + why);
}
