using System.Security.Cryptography;
using System.Text;

namespace Appoxy.Nginx;

/// <summary>All that is rendered for one nginx: its configuration and its error pages.</summary>
internal sealed record RenderedConfig(RenderedTemplate Config, IReadOnlyList<(string File, string Text)> Pages)
{
    public const string ConfigFile = "nginx.conf";
    private const string PageTemplate = "error-page.html.sbn";
    private static readonly (int Code, string File, string Title, string Message, int Refresh)[] ErrorPages =
    [
        (401, "401.html", "Sign in to see this", "This site is open to those who have a name and a password for it.", 0),
        (403, "403.html", "Not from here", "This site is not open to the network that you come from.", 0),
        (404, "404.html", "There is no such site here", "The address may be mistyped, or the site has moved.", 0),
        (413, "413.html", "Too large", "This site does not take that much at once.", 0),
        (429, "429.html", "Too many requests", "Please wait a moment before you try again.", 0),
        (502, "502.html", "The app did not answer", "It closed the connection, or could not be reached. Please try again.", 0),
        (503, "503.html", "Not available right now", "The app could not be reached. Please try again in a moment.", 5),
        (503, "maintenance.html", "Back soon", "This site is being worked on. Please come back in a while.", 0),
        (503, "waking.html", "Waking up", "The app was asleep and is starting. It usually takes {time}, and then shows here by itself.", 2),
    ];

    /// <summary>Each file with its path below the version's folder.</summary>
    public IEnumerable<(string File, string Text)> Files => Pages.Prepend((ConfigFile, Config.Text));

    /// <exception cref="TemplateException">A template does not render.</exception>
    public static RenderedConfig Of(TemplateFolder folder, string name, object model) => new(
        folder.Render($"{name}.conf.sbn", model),
        [.. ErrorPages.Select(p => ($"pages/{p.File}", folder.Render(PageTemplate,
            new { code = p.Code, title = p.Title, message = p.Message, refresh = p.Refresh }).Text))]);

    /// <summary>What one template became; several pages follow each other.</summary>
    public string TextOf(string template) =>
        template == PageTemplate ? string.Join('\n', Pages.Select(p => $"<!-- {p.File} -->\n{p.Text}")) : Config.Text;

    /// <summary>The version's name: what renders to the same is the same, so that no nginx is reloaded for a template that is not its own.</summary>
    public string Hash()
    {
        using var sha = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var (_, text) in Files)
            sha.AppendData(Encoding.UTF8.GetBytes(text + "\0"));
        return Convert.ToHexStringLower(sha.GetHashAndReset())[..12];
    }

    /// <summary>Writes all files below a folder, in place of what it held.</summary>
    public async Task WriteAsync(string folder, CancellationToken cancel)
    {
        if (Directory.Exists(folder))
            Directory.Delete(folder, recursive: true);
        Directory.CreateDirectory(Path.Combine(folder, "pages"));
        foreach (var (file, text) in Files)
            await File.WriteAllTextAsync(Path.Combine(folder, file), text, cancel);
    }
}
