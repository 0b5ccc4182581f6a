using System.Text.Json;

namespace Appoxy.Cli;

/// <summary>Where routerd is, and with which token to talk to it.</summary>
/// <param name="Url">Of the console.</param>
/// <param name="Token">Secret; null only to ask for one.</param>
internal sealed record Connection(string Url, string? Token)
{
    private const string DefaultInstall = "/etc/appoxy/install.json";

    /// <summary>Where <c>appoxy login</c> keeps what it was given.</summary>
    public static string ConfigFile { get; } = Path.Combine(Environment.GetFolderPath(
        Environment.SpecialFolder.ApplicationData, Environment.SpecialFolderOption.DoNotVerify), "appoxy", "config.json");

    private static string InstallFile => Variable("APPOXY_INSTALL") ?? DefaultInstall;

    /// <summary>The environment's, else the one logged in to, else this machine's.</summary>
    /// <exception cref="Failure">There is none, or it makes no sense.</exception>
    public static Connection Find()
    {
        var (url, token) = (Variable("APPOXY_URL"), Variable("APPOXY_TOKEN"));
        if (url is not null && token is not null)
            return new Connection(Checked(url, "APPOXY_URL"), CheckedToken(token, "APPOXY_TOKEN"));
        var known = Saved() ?? Installed();
        if (url is not null)
        {
            // A token is sent nowhere but to where it was issued.
            var here = Checked(url, "APPOXY_URL");
            return known is not null && known.Url == here
                ? known
                : throw Failure.Usage("APPOXY_URL is set but APPOXY_TOKEN is not: set both");
        }
        if (known is null)
            throw Failure.Usage("which Appoxy? set APPOXY_URL and APPOXY_TOKEN, or run: appoxy login URL");
        return token is null ? known : known with { Token = CheckedToken(token, "APPOXY_TOKEN") };
    }

    /// <summary>Where to log in when no URL was given.</summary>
    public static string? DefaultUrl() => Variable("APPOXY_URL") ?? Saved()?.Url ?? Installed()?.Url;

    /// <summary>An http(s) URL without anything behind its path, as <see cref="LocalHttp"/> wants it.</summary>
    public static string Checked(string url, string from)
    {
        if (!Uri.TryCreate(url, UriKind.Absolute, out var uri) || uri.Scheme is not ("http" or "https") || uri.UserInfo.Length > 0)
            throw Failure.Usage($"{from} is '{url}': give a URL such as https://console.example.com");
        return uri.GetLeftPart(UriPartial.Path).TrimEnd('/') + "/";
    }

    /// <summary>Keeps a connection for this user alone.</summary>
    public static void Save(Connection connection)
    {
        var folder = Path.GetDirectoryName(ConfigFile)!;
        Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        var next = ConfigFile + ".next";
        File.Delete(next);
        using (var file = new FileStream(next, new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        }))
        using (var json = new Utf8JsonWriter(file))
        {
            json.WriteStartObject();
            json.WriteString("url", connection.Url);
            json.WriteString("token", connection.Token);
            json.WriteEndObject();
        }
        File.Move(next, ConfigFile, overwrite: true);
    }

    private static Connection? Saved() => Read(ConfigFile) is { } json
        ? new Connection(
            Checked(Member(json, "url", ConfigFile), $"url in {ConfigFile}"), CheckedToken(Member(json, "token", ConfigFile), ConfigFile))
        : null;

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
    private static JsonElement? Read(string path)
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

    private static string Member(JsonElement json, string name, string path) =>
        json.ValueKind == JsonValueKind.Object && json.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String
            ? value.GetString()!
            : throw Failure.Usage($"{path} has no {name}: mend or remove it");

    private static string CheckedToken(string token, string from) =>
        token.Length > 0 && token.All(c => c is > ' ' and < '\x7f')
            ? token
            : throw Failure.Usage($"{from} holds no token: it begins with apx_");

    private static string? Variable(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value.Trim() : null;
}
