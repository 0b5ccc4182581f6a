using System.CommandLine;
using System.Text;

namespace Appoxy.Cli;

/// <summary><c>appoxy login</c>: exchanges a password for a token, and keeps that for later commands.</summary>
internal static class Login
{
    private static readonly Argument<string?> Url = new("URL") { Description = "The console's URL", Arity = ArgumentArity.ZeroOrOne };
    private static readonly Option<string?> Email = new("--email") { Description = "Who logs in; asked for if left out", HelpName = "E" };

    public static Verb Define()
    {
        var verb = new Verb("login", "Logs in; the password is asked for, or read from standard input.",
            "appoxy login https://console.example.com --email me@example.com",
            "appoxy login http://console.localhost --email me@example.com < password-file") { Url, Email };
        verb.SetAction(async (parsed, cancel) =>
        {
            var url = parsed.GetValue(Url) ?? Connection.DefaultUrl() ?? throw Failure.Usage("login needs the console's URL");
            url = Connection.Checked(url, "URL");
            var email = parsed.GetValue(Email) ?? (Console.IsInputRedirected ? throw Failure.Usage("login needs --email") : Ask("Email: "));
            var password = Console.IsInputRedirected ? Console.In.ReadLine() : AskSecretly("Password: ");
            if (string.IsNullOrEmpty(email) || string.IsNullOrEmpty(password))
                throw Failure.Usage("login needs an email address and a password");
            using var routerd = new Routerd(new Connection(url, null));
            var body = new NewToken(email, password, $"cli on {Environment.MachineName}");
            var token = await routerd.PostAsync<NewToken, IssuedToken>("v1/tokens", body, cancel);
            Connection.Save(new Connection(url, token.Value.Token));
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
