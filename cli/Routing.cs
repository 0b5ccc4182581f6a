using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy routing</c>: what is done with requests before they reach an app.</summary>
internal static class Routing
{
    private const string Header = "response-header";

    // A page may be longer than its limit only to be refused with words that say so.
    private const int MostRead = 1 << 20;

    public static Verb Define()
    {
        var name = Arguments.App();
        var pairs = Arguments.Pairs("KEY=VALUE",
            $"{string.Join(", ", RoutingOption.All.Select(o => o.Name))}, {Header}; off clears one, @FILE reads a page from a file", required: false);
        pairs.Validators.Add(result =>
        {
            var seen = new HashSet<string>(StringComparer.Ordinal);
            if (result.Tokens.Select(t => Fault(t.Value, seen)).FirstOrDefault(f => f is not null) is { } fault)
                result.AddError(fault);
        });
        var passwords = new Option<string?>("--password-file")
        {
            Description = "A file with a line for the password of each user of auth, in their order; else standard input",
            HelpName = "FILE",
        };
        return new Verb("routing", "Shows what is done with requests before they reach an app, or changes it.",
            "appoxy routing shop", "appoxy routing shop force-https=on www=to-apex max-body=10m rate-limit=10r/s",
            "appoxy routing shop auth=alice --password-file alice.password", "appoxy routing shop maintenance=on maintenance-page=@back-soon.html",
            "appoxy routing shop response-header=X-Frame-Options:DENY canary=shop-next:10", "appoxy routing shop auth=off canary=off")
            { name, pairs, passwords }
            .Does(async (call, cancel) =>
            {
                var path = Routerd.App(call.Get(name), "routing");
                var routing = call.Get(pairs) is { Length: > 0 } changes
                    ? await call.Routerd.PatchAsync<AppRouting, AppRouting>(path, Parse(changes, call.Get(passwords)), cancel)
                    : await call.Routerd.GetAsync<AppRouting>(path, cancel);
                if (call.Json)
                    Output.Json(routing.Json);
                else
                    Output.Pairs(Show(routing.Value));
            }, parsed => parsed.GetValue(passwords) is not null && !SetsUsers(parsed.GetValue(pairs) ?? [])
                ? "--password-file goes with auth=USER"
                : null);
    }

    private static bool SetsUsers(string[] pairs) => pairs.Any(p => Split(p) is { Key: "auth", Value: not RoutingOption.Off });

    private static AppRouting Parse(string[] pairs, string? passwordFile)
    {
        var routing = new AppRouting();
        foreach (var (key, value) in pairs.Select(Split))
        {
            if (key == Header)
            {
                var (header, text) = SplitHeader(value);
                (routing = routing with { ResponseHeaders = routing.ResponseHeaders ?? [] }).ResponseHeaders![header] = text;
                continue;
            }
            var option = RoutingOption.All.Single(o => o.Name == key);
            routing = option.With(routing, option.IsPage && value.StartsWith('@') ? ReadPage(option, value[1..]) : value);
        }
        if (!SetsUsers(pairs))
            return routing;
        var users = RoutingOption.All.Single(o => o.Name == "auth").Normalize(routing.Auth!)!;
        return routing with { Passwords = ReadPasswords(RoutingOption.List(users), passwordFile) };
    }

    private static IEnumerable<(string Name, string? Value)> Show(AppRouting routing) =>
        RoutingOption.All.Select(o => (o.Name, o.Of(routing) is { } value && o.IsPage && value != RoutingOption.Off
                ? $"HTML, {value.Length} characters" : o.Of(routing)))
            .Concat((routing.ResponseHeaders ?? []).OrderBy(h => h.Key, StringComparer.OrdinalIgnoreCase)
                .Select(h => (Header, (string?)$"{h.Key}: {h.Value}")));

    private static string? Fault(string pair, HashSet<string> seen)
    {
        var (key, value) = Split(pair);
        if (!pair.Contains('=', StringComparison.Ordinal))
            return Arguments.UnknownOption(pair) ?? $"'{pair}' is not KEY=VALUE";
        if (key == Header)
        {
            var (header, text) = SplitHeader(value);
            return value.Contains(':', StringComparison.Ordinal) ? RoutingOption.HeaderFault(header, text)
                : $"{Header} is '{value}': give NAME:VALUE, or NAME: to remove one";
        }
        if (RoutingOption.All.FirstOrDefault(o => o.Name == key) is not { } option)
            return $"there is no routing option '{key}'; there are {string.Join(", ", RoutingOption.All.Select(o => o.Name))}, {Header}";
        if (!seen.Add(key))
            return $"{key} is given twice";
        if (value == RoutingOption.Off)
            return null;
        if (option.IsPage)
            return value.Length > 1 && value[0] == '@' ? null : $"{key} is '{value}': give @FILE, or off";
        return option.Normalize(value) is not null ? null : $"{key} is '{value}': give {option.Example}";
    }

    private static string ReadPage(RoutingOption option, string path)
    {
        var text = Read(path, () =>
        {
            using var reader = path == "-" ? Console.In : new StreamReader(path);
            var buffer = new char[MostRead];
            return new string(buffer, 0, reader.ReadBlock(buffer));
        });
        return option.Normalize(text) ?? throw Failure.Usage($"{option.Name}: {path} is not {option.Example.Split(',')[0]}");
    }

    /// <summary>A line for each user. Never from the command line, which others on the machine can see.</summary>
    private static Dictionary<string, string> ReadPasswords(string[] users, string? path)
    {
        if (path is null && !Console.IsInputRedirected)
            return users.ToDictionary(u => u, u => Login.AskSecretly($"Password of {u}: "));
        var lines = Read(path ?? "standard input", () =>
        {
            using var reader = path is null or "-" ? Console.In : new StreamReader(path);
            return users.Select(_ => reader.ReadLine()).ToArray();
        });
        if (Array.IndexOf(lines, null) is var missing and >= 0)
            throw Failure.Usage($"there is no password for {users[missing]}: give a line for each user of auth, by --password-file or standard input");
        foreach (var (user, password) in users.Zip(lines))
            if (RoutingOption.PasswordFault(password) is { } fault)
                throw Failure.Usage($"{user}: {fault}");
        return users.Zip(lines).ToDictionary(p => p.First, p => p.Second!);
    }

    private static T Read<T>(string path, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Failure.Usage($"can't read {path}: {e.Message}");
        }
    }

    private static (string Name, string Value) SplitHeader(string text) =>
        text.IndexOf(':', StringComparison.Ordinal) is var at and >= 0 ? (text[..at].Trim(), text[(at + 1)..].Trim()) : (text, "");

    private static (string Key, string Value) Split(string pair) =>
        pair.IndexOf('=', StringComparison.Ordinal) is var at and >= 0 ? (pair[..at], pair[(at + 1)..]) : (pair, "");
}
