using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy tokens</c>: one's own tokens.</summary>
internal static class Tokens
{
    public static Command Define() => new("tokens", "Lists, makes and revokes one's own tokens.") { List(), Create(), Revoke() };

    private static Verb List() => new Verb("list", "Lists one's own tokens.", "appoxy tokens list").Does(async (call, cancel) =>
    {
        var tokens = await call.Routerd.ListAsync<Token>("v1/tokens", cancel);
        if (call.Json)
            Output.Json(tokens.Items);
        else
            Output.Table(tokens.Value.Items, ("ID", t => t.Id.ToString()), ("NAME", t => t.Current ? t.Name + " (this one)" : t.Name),
                ("KIND", t => t.Kind), ("SCOPE", t => t.Scope), ("APP", t => t.App), ("CREATED", t => Output.Ago(t.CreatedAt)),
                ("USED", t => Output.Ago(t.LastUsedAt)), ("EXPIRES", t => Expires(t.ExpiresAt)));
    });

    private static Verb Create()
    {
        var name = new Argument<string>("TOKEN") { Description = "A name, by which you know it again" };
        var scope = new Option<string>("--scope")
        {
            Description = "read, deploy, write or admin, each of which may do what those before it may; or metrics, which may read those alone", HelpName = "SCOPE",
            DefaultValueFactory = _ => "deploy",
        };
        scope.AcceptOnlyFromAmong("read", "deploy", "write", "admin", "metrics");
        var app = new Option<string?>("--app") { Description = "The only app that it is for", HelpName = "NAME" };
        var expires = new Option<string?>("--expires") { Description = "After how long it ends, as 90d, or never; else after a year", HelpName = "AFTER" };
        return new Verb("create", "Makes a token and prints it, this once.",
            "appoxy tokens create ci --scope deploy --app shop", "appoxy tokens create backup --scope read --expires 90d") { name, scope, app, expires }
            .Does(async (call, cancel) =>
            {
                var token = await call.Routerd.PostAsync<NewToken, IssuedToken>("v1/tokens",
                    new NewToken(Name: call.Get(name), Scope: call.Get(scope), App: call.Get(app), Expires: call.Get(expires)), cancel);
                if (call.Json)
                    Output.Json(token.Json);
                else
                    Output.Line(token.Value.Token);
            });
    }

    private static Verb Revoke()
    {
        var id = new Argument<long>("ID") { Description = "As appoxy tokens list shows it" };
        return new Verb("revoke", "Ends a token at once.", "appoxy tokens revoke 12") { id }.Does(async (call, cancel) =>
        {
            await call.Routerd.DeleteAsync($"v1/tokens/{call.Get(id)}", cancel);
            Removed.Print(call, $"token {call.Get(id)}", $"token {call.Get(id)} is revoked");
        });
    }

    public static string Expires(DateTimeOffset? at) => at is { } time ? $"in {Output.Span(time - DateTimeOffset.UtcNow)}" : "never";
}

/// <summary><c>appoxy whoami</c>, <c>appoxy password</c>: who one is, and one's own password.</summary>
internal static class Accounts
{
    public static Verb WhoAmI() => new Verb("whoami", "Shows who one is, and what one may have.", "appoxy whoami").Does(async (call, cancel) =>
    {
        var answer = await call.Routerd.GetAsync<Account>("v1/account", cancel);
        if (call.Json)
        {
            Output.Json(answer.Json);
            return;
        }
        var account = answer.Value;
        Output.Pairs(
        [
            ("email", account.Email), ("role", account.Role), ("token", account.Token), ("scope", account.Scope), ("app", account.App),
            ("teams", string.Join(' ', account.Teams ?? [])), .. Quotas.Show(account.Quota, account.Usage),
        ]);
    });

    public static Verb Password() => new Verb("password", "Changes one's own password, and ends all other sign-ins.",
        "appoxy password", "printf '%s\\n' \"$OLD\" \"$NEW\" | appoxy password").Does(async (call, cancel) =>
    {
        var current = Secret.Read("Password now: ");
        await call.Routerd.PutJsonAsync("v1/account/password", new NewPassword(current, Secret.ReadNew()), cancel);
        if (call.Json)
            Output.Json(json =>
            {
                json.WriteStartObject();
                json.WriteBoolean("changed", true);
                json.WriteEndObject();
            });
        else
            Output.Line("the password is changed; other sign-ins have ended");
    });
}

/// <summary>Asks for what must not be seen: at a terminal without echo, else a line of standard input.</summary>
internal static class Secret
{
    public static string Read(string question) =>
        (Console.IsInputRedirected ? Console.In.ReadLine() : Login.AskSecretly(question)) is { Length: > 0 } secret ? secret
            : throw Failure.Usage($"nothing was given for '{question.TrimEnd(' ', ':')}'");

    /// <summary>A new password, at a terminal asked for twice.</summary>
    public static string ReadNew()
    {
        var password = Read("New password: ");
        return Console.IsInputRedirected || Read("Once more: ") == password ? password : throw Failure.Usage("these are two passwords; nothing was changed");
    }
}
