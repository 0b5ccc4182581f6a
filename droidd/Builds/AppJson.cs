using System.Text.Json;

namespace Appoxy.Droidd.Builds;

/// <summary>What an app's <c>app.json</c> has run around a deployment, each in a container of its own; null for nothing.</summary>
/// <param name="Before"><c>scripts.dokku.predeploy</c>: before the release command and all that serves.</param>
/// <param name="After"><c>scripts.dokku.postdeploy</c>: once the new version serves.</param>
/// <param name="First"><c>scripts.postdeploy</c>: after that, with an app's first version.</param>
internal sealed record DeployScripts(string? Before = null, string? After = null, string? First = null);

/// <summary>The <c>app.json</c> in the top folder of a source, as Heroku and Dokku read it.</summary>
internal static class AppJson
{
    private const long LongestFile = 64 << 10;
    private const int LongestScript = 8 << 10;

    /// <summary>Its scripts; null where there are none.</summary>
    /// <exception cref="BuildException">It is no regular file, too long, or no JSON.</exception>
    public static async Task<DeployScripts?> ReadAsync(string folder, CancellationToken cancel)
    {
        var file = new FileInfo(Path.Combine(folder, "app.json"));
        if (!file.Exists && file.LinkTarget is null)
            return null;
        // A link could lead to what is not the app's.
        if (file is not { LinkTarget: null, Exists: true, Length: <= LongestFile })
            throw Refused("it must be a file of 64 kB at most");
        return Parse(await File.ReadAllTextAsync(file.FullName, cancel));
    }

    /// <exception cref="BuildException">It is no JSON.</exception>
    internal static DeployScripts? Parse(string text)
    {
        try
        {
            using var json = JsonDocument.Parse(text.TrimStart('\ufeff'),
                new JsonDocumentOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true });
            if (Member(json.RootElement, "scripts") is not { } scripts)
                return null;
            var dokku = Member(scripts, "dokku");
            var found = new DeployScripts(Script(dokku, "predeploy"), Script(dokku, "postdeploy"), Script(scripts, "postdeploy"));
            return found == new DeployScripts() ? null : found;
        }
        catch (JsonException e)
        {
            throw Refused(e.Message.ReplaceLineEndings(" "));
        }
    }

    private static JsonElement? Member(JsonElement? of, string name) =>
        of is { ValueKind: JsonValueKind.Object } element && element.TryGetProperty(name, out var member) ? member : null;

    private static string? Script(JsonElement? of, string name) => Member(of, name) switch
    {
        { ValueKind: JsonValueKind.String } script when script.GetString() is { Length: <= LongestScript } text && !text.Contains('\0', StringComparison.Ordinal) =>
            text.Trim() is { Length: > 0 } command ? command : null,
        null or { ValueKind: JsonValueKind.Null } => null,
        _ => throw Refused($"scripts: {name} is no command of {LongestScript >> 10} kB at most"),
    };

    private static BuildException Refused(string why) => new(FailureReasons.Source, "app.json: " + why);
}
