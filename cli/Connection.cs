using System.Text.Json;

namespace Appoxy.Cli;

/// <summary>Where routerd is, and with which token to talk to it.</summary>
/// <param name="Url">Of the console.</param>
/// <param name="Token">Secret; null only to ask for one.</param>
internal sealed record Connection(string Url, string? Token)
{
    private const string DefaultInstall = "/etc/appoxy/install.json";

    private static string InstallFile => Variable("APPOXY_INSTALL") ?? DefaultInstall;

    /// <summary>The environment's, else the one logged in to, else this machine's.</summary>
    /// <exception cref="Failure">There is none, or it makes no sense.</exception>
    public static Connection Find()
    {
        var (url, token) = (Variable("APPOXY_URL"), Variable("APPOXY_TOKEN"));
        if (url is not null && token is not null)
            return new Connection(Checked(url, "APPOXY_URL"), CheckedToken(token, "APPOXY_TOKEN"));
        var logins = Logins.Read();
        if (url is not null)
        {
            // A token is sent nowhere but to where it was issued.
            var here = Checked(url, "APPOXY_URL");
            return logins.Find(here) ?? (Installed() is { } installed && installed.Url == here ? installed
                : throw Failure.Usage("APPOXY_URL is set but APPOXY_TOKEN is not: set both, or log in there"));
        }
        var known = logins.Current ?? Installed()
            ?? throw Failure.Usage("which Appoxy? set APPOXY_URL and APPOXY_TOKEN, or run: appoxy login URL");
        return token is null ? known : known with { Token = CheckedToken(token, "APPOXY_TOKEN") };
    }

    /// <summary>Where to log in when no URL was given.</summary>
    public static string? DefaultUrl() => Variable("APPOXY_URL") ?? Logins.Read().Current?.Url ?? Installed()?.Url;

    /// <summary>An http(s) URL without anything behind its path, as <see cref="LocalHttp"/> wants it.</summary>
    public static string Checked(string url, string from)
    {
        if (!Uri.TryCreate(url, UriKind.Absolute, out var uri) || uri.Scheme is not ("http" or "https") || uri.UserInfo.Length > 0)
            throw Failure.Usage($"{from} is '{url}': give a URL such as https://console.example.com");
        return uri.GetLeftPart(UriPartial.Path).TrimEnd('/') + "/";
    }

    private static Connection? Installed()
    {
        if (Read(InstallFile) is not { } json)
            return null;
        var tokenFile = Member(json, "token_file", InstallFile);
        try
        {
            var url = Checked(Member(json, "console_url", InstallFile), $"console_url in {InstallFile}");
            return new Connection(url, CheckedToken(File.ReadAllText(tokenFile).Trim(), tokenFile));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Failure.Usage($"can't read {tokenFile}, where {InstallFile} says that the token is: set APPOXY_URL and APPOXY_TOKEN");
        }
    }

    /// <summary>A settings file; null where it is not there or not for us.</summary>
    public static JsonElement? Read(string path)
    {
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path));
            return json.RootElement.Clone();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
        catch (JsonException)
        {
            throw Failure.Usage($"{path} is not JSON: mend or remove it");
        }
    }

    public static string Member(JsonElement json, string name, string path) =>
        json.ValueKind == JsonValueKind.Object && json.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String
            ? value.GetString()!
            : throw Failure.Usage($"{path} has no {name}: mend or remove it");

    public static string CheckedToken(string token, string from) =>
        token.Length > 0 && token.All(c => c is > ' ' and < '\x7f')
            ? token
            : throw Failure.Usage($"{from} holds no token: it begins with apx_");

    private static string? Variable(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value.Trim() : null;
}
