using System.CommandLine;
using System.Text.Json;

namespace Appoxy.Cli;

/// <summary>
/// What <c>appoxy login</c> was given, for each Appoxy that it was used with, and which of them is meant: <c>~/.config/appoxy/config.json</c>,
/// for its user alone.
/// </summary>
internal sealed record Logins(string? CurrentUrl, IReadOnlyDictionary<string, string> Tokens)
{
    /// <summary>Where they are kept.</summary>
    public static string ConfigFile { get; } = Path.Combine(Environment.GetFolderPath(
        Environment.SpecialFolder.ApplicationData, Environment.SpecialFolderOption.DoNotVerify), "appoxy", "config.json");

    /// <summary>The one that commands are for; null where there is none.</summary>
    public Connection? Current => CurrentUrl is null ? null : Find(CurrentUrl);

    public Connection? Find(string url) => Tokens.TryGetValue(url, out var token) ? new Connection(url, token) : null;

    /// <exception cref="Failure">The file makes no sense.</exception>
    public static Logins Read()
    {
        if (Connection.Read(ConfigFile) is not { } json)
            return new Logins(null, new Dictionary<string, string>());
        var current = Connection.Checked(Connection.Member(json, "url", ConfigFile), $"url in {ConfigFile}");
        // As it was written while there was one alone.
        if (!json.TryGetProperty("tokens", out var tokens))
            return new Logins(current, new Dictionary<string, string> { [current] = Connection.CheckedToken(Connection.Member(json, "token", ConfigFile), ConfigFile) });
        if (tokens.ValueKind != JsonValueKind.Object)
            throw Failure.Usage($"{ConfigFile} has no tokens: mend or remove it");
        return new Logins(current, tokens.EnumerateObject().ToDictionary(t => Connection.Checked(t.Name, ConfigFile),
            t => Connection.CheckedToken(Connection.Member(tokens, t.Name, ConfigFile), ConfigFile)));
    }

    /// <summary>Adds one, or a new token for it, and has commands go there from now on.</summary>
    public Logins With(Connection connection) =>
        new(connection.Url, new Dictionary<string, string>(Tokens) { [connection.Url] = connection.Token! });

    public void Save()
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
            json.WriteString("url", CurrentUrl);
            json.WriteStartObject("tokens");
            foreach (var (url, token) in Tokens)
                json.WriteString(url, token);
            json.WriteEndObject();
            json.WriteEndObject();
        }
        File.Move(next, ConfigFile, overwrite: true);
    }

    /// <summary><c>appoxy use</c>: which of them commands are for.</summary>
    public static Verb Use()
    {
        var argument = new Argument<string?>("URL") { Description = "The console's URL, or enough of it; else all are listed", Arity = ArgumentArity.ZeroOrOne };
        argument.CompletionSources.Add(_ => Read().Tokens.Keys.Select(u => new System.CommandLine.Completions.CompletionItem(u)));
        var verb = new Verb("use", "Says which of the Appoxys that one has logged in to commands are for; without URL, lists them.",
            "appoxy use", "appoxy use console.example.com") { argument };
        verb.SetAction(parsed =>
        {
            var logins = Read();
            if (parsed.GetValue(argument) is { } wanted)
            {
                logins = logins with { CurrentUrl = logins.Named(wanted) };
                logins.Save();
            }
            if (parsed.GetValue(Verb.Json))
                Output.Json(json =>
                {
                    json.WriteStartArray();
                    foreach (var url in logins.Tokens.Keys)
                    {
                        json.WriteStartObject();
                        json.WriteString("url", url);
                        json.WriteBoolean("current", url == logins.CurrentUrl);
                        json.WriteEndObject();
                    }
                    json.WriteEndArray();
                });
            else if (parsed.GetValue(argument) is not null)
                Output.Line($"commands are for {logins.CurrentUrl} from now on");
            else
                Output.Table(logins.Tokens.Keys.Order(StringComparer.Ordinal), ("URL", u => u), ("CURRENT", u => u == logins.CurrentUrl ? "yes" : null));
            return ExitCodes.Done;
        });
        return verb;
    }

    private string Named(string wanted) => Tokens.ContainsKey(wanted.TrimEnd('/') + "/") ? wanted.TrimEnd('/') + "/"
        : Tokens.Keys.Where(u => u.Contains(wanted, StringComparison.OrdinalIgnoreCase)).ToList() switch
        {
            [var one] => one,
            [] => throw new Failure(ExitCodes.NotFound, $"you are not logged in to {wanted}; run: appoxy login URL"),
            var several => throw Failure.Usage($"'{wanted}' may be {string.Join(" or ", several)}"),
        };
}
