using System.CommandLine;
using System.Text;

namespace Appoxy.Cli;

/// <summary><c>appoxy login</c>: exchanges a password, or a sign-in by a browser, for a token, and keeps that for later commands.</summary>
internal static class Login
{
    private static readonly Argument<string?> Url = new("URL") { Description = "The console's URL", Arity = ArgumentArity.ZeroOrOne };
    private static readonly Option<string?> Email = new("--email") { Description = "Who logs in; asked for if left out", HelpName = "E" };
    private static readonly Option<bool> Sso = new("--sso") { Description = "Sign in by a browser, as one does elsewhere in one's organisation" };
    private static readonly Option<bool> NoBrowser = new("--no-browser")
        { Description = "With --sso: print the address to visit, from wherever there is a browser, and ask for the code that is shown there" };

    public static Verb Define()
    {
        var verb = new Verb("login", "Logs in; the password is asked for, or read from standard input.",
            "appoxy login https://console.example.com --email me@example.com", "appoxy login https://console.example.com --sso",
            "appoxy login http://console.localhost --email me@example.com < password-file") { Url, Email, Sso, NoBrowser };
        verb.SetAction(async (parsed, cancel) =>
        {
            var url = parsed.GetValue(Url) ?? Connection.DefaultUrl() ?? throw Failure.Usage("login needs the console's URL");
            url = Connection.Checked(url, "URL");
            var sso = parsed.GetValue(Sso);
            if (sso && parsed.GetValue(Email) is not null)
                throw CommandLine.Misused(verb, "--sso takes no --email: the browser says who logs in");
            if (!sso && parsed.GetValue(NoBrowser))
                throw CommandLine.Misused(verb, "--no-browser goes with --sso");
            using var routerd = new Routerd(new Connection(url, null));
            var name = $"cli on {Environment.MachineName}";
            var token = sso ? await BrowserLogin.RunAsync(routerd, name, parsed.GetValue(NoBrowser), cancel)
                : await ByPasswordAsync(routerd, parsed.GetValue(Email), name, cancel);
            var connection = new Connection(url, token);
            using var known = new Routerd(connection);
            var email = (await known.GetAsync<Account>("v1/account", cancel)).Value.Email;
            Logins.Read().With(connection).Save();
            if (parsed.GetValue(Verb.Json))
                Output.Json(json =>
                {
                    json.WriteStartObject();
                    json.WriteString("url", url);
                    json.WriteString("email", email);
                    json.WriteEndObject();
                });
            else
                Output.Line($"logged in to {url} as {email}");
            return ExitCodes.Done;
        });
        return verb;
    }

    private static async Task<string> ByPasswordAsync(Routerd routerd, string? email, string name, CancellationToken cancel)
    {
        email ??= Console.IsInputRedirected ? throw Failure.Usage("login needs --email") : Ask("Email: ");
        var password = Console.IsInputRedirected ? Console.In.ReadLine() : AskSecretly("Password: ");
        if (string.IsNullOrEmpty(email) || string.IsNullOrEmpty(password))
            throw Failure.Usage("login needs an email address and a password");
        return (await routerd.PostAsync<NewToken, IssuedToken>("v1/tokens", new NewToken(email, password, name), cancel)).Value.Token;
    }

    private static string? Ask(string question)
    {
        Console.Error.Write(question);
        return Console.ReadLine();
    }

    public static string AskSecretly(string question)
    {
        Console.Error.Write(question);
        var answer = new StringBuilder();
        while (Console.ReadKey(intercept: true) is { Key: not ConsoleKey.Enter } key)
        {
            if (key.Key == ConsoleKey.Backspace)
                answer.Length = Math.Max(0, answer.Length - 1);
            else if (!char.IsControl(key.KeyChar))
                answer.Append(key.KeyChar);
        }
        Console.Error.WriteLine();
        return answer.ToString();
    }
}
