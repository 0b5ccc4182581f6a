using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy users</c>: who may use Appoxy. All but <c>accept</c> are for admins.</summary>
internal static class Users
{
    public static Command Define() => new("users", "Invites, lists, changes and removes users.")
    {
        List(), Info(), Invite(), Accept(), SetRole(), Disable("disable", "Ends a user's tokens, and lets them sign in no more.", true),
        Disable("enable", "Lets a disabled user sign in again.", false), SetQuota(), ResetPassword(), Unlink(), Remove(),
    };

    private static Verb List() => new Verb("list", "Lists the users.", "appoxy users list").Does(async (call, cancel) =>
    {
        var users = await call.Routerd.ListAsync<User>("v1/users", cancel);
        if (call.Json)
            Output.Json(users.Items);
        else
            Output.Table(users.Value.Items, ("EMAIL", u => u.Email), ("ROLE", u => u.Role), ("STATE", u => u.State), ("APPS", u => u.Apps.ToString()),
                ("SEEN", u => Output.Ago(u.LastSeenAt)), ("CREATED", u => Output.Ago(u.CreatedAt)));
    });

    private static Verb Info()
    {
        var email = Email();
        return new Verb("info", "Shows a user.", "appoxy users info ann@example.com") { email }.Does(async (call, cancel) =>
            Print(call, await call.Routerd.GetAsync<User>(Path(call.Get(email)), cancel)));
    }

    private static Verb Invite()
    {
        var email = Email();
        var role = new Option<string>("--role") { Description = "member or admin", HelpName = "ROLE", DefaultValueFactory = _ => "member" };
        role.AcceptOnlyFromAmong("member", "admin");
        return new Verb("invite", "Invites a user; prints what lets them set a password, once and within three days.",
            "appoxy users invite ann@example.com", "appoxy users invite root@example.com --role admin") { email, role }
            .Does(async (call, cancel) => Print(call, await call.Routerd.PostAsync<NewUser, Invitation>(
                "v1/users", new NewUser(call.Get(email), call.Get(role)), cancel)));
    }

    private static Verb Accept()
    {
        var url = new Argument<string?>("URL") { Description = "The console's URL", Arity = ArgumentArity.ZeroOrOne };
        var verb = new Verb("accept", "Sets a password by an invitation; asked for, or the first two lines of standard input.",
            "appoxy users accept https://console.example.com") { url };
        verb.SetAction(async (parsed, cancel) =>
        {
            var at = Connection.Checked(parsed.GetValue(url) ?? Connection.DefaultUrl() ?? throw Failure.Usage("accept needs the console's URL"), "URL");
            using var routerd = new Routerd(new Connection(at, null));
            var invitation = Secret.Read("Invitation: ");
            var account = await routerd.PostAsync<AcceptedInvitation, Account>(
                "v1/invitations/accept", new AcceptedInvitation(invitation.Trim(), Secret.ReadNew()), cancel);
            if (parsed.GetValue(Verb.Json))
                Output.Json(account.Json);
            else
                Output.Line($"the password is set; now: appoxy login {at} --email {account.Value.Email}");
            return ExitCodes.Done;
        });
        return verb;
    }

    private static Verb SetRole()
    {
        var email = Email();
        var role = new Argument<string>("ROLE") { Description = "member or admin" };
        role.AcceptOnlyFromAmong("member", "admin");
        return new Verb("set-role", "Makes a user an admin or a member.", "appoxy users set-role ann@example.com admin") { email, role }
            .Does(async (call, cancel) => Print(call, await ChangeAsync(call, call.Get(email), new UserChange(Role: call.Get(role)), cancel)));
    }

    private static Verb Disable(string name, string description, bool disabled)
    {
        var email = Email();
        return new Verb(name, description, $"appoxy users {name} ann@example.com") { email }
            .Does(async (call, cancel) => Print(call, await ChangeAsync(call, call.Get(email), new UserChange(Disabled: disabled), cancel)));
    }

    private static Verb SetQuota()
    {
        var (email, pairs) = (Email(), Quotas.Argument());
        return new Verb("set-quota", "Bounds what all apps of a user may have together.",
            "appoxy users set-quota ann@example.com apps=20 memory=8g cpus=4", "appoxy users set-quota ann@example.com builds=unlimited apps=default") { email, pairs }
            .Does(async (call, cancel) => Print(call,
                await ChangeAsync(call, call.Get(email), new UserChange(Quota: Quotas.Parse(call.Get(pairs))), cancel)));
    }

    private static Verb ResetPassword()
    {
        var email = Email();
        return new Verb("reset-password", "Prints what lets a user set a new password, once and within three days.",
            "appoxy users reset-password ann@example.com") { email }
            .Does(async (call, cancel) => Print(call, await call.Routerd.PostAsync<Invitation>(Path(call.Get(email)) + "/reset-password", cancel)));
    }

    private static Verb Unlink()
    {
        var email = Email();
        return new Verb("unlink", "Forgets which account of a sign-in provider a user has; the next sign-in there by the same address says anew.",
            "appoxy users unlink ann@example.com") { email }
            .Does(async (call, cancel) =>
            {
                await call.Routerd.DeleteAsync(Path(call.Get(email)) + "/identities", cancel);
                Removed.Print(call, call.Get(email), $"{call.Get(email)} is bound to no account of a sign-in provider, and signed in nowhere");
            });
    }

    private static Verb Remove()
    {
        var email = Email();
        return new Verb("remove", "Removes a user who owns no app and no team alone.", "appoxy users remove ann@example.com") { email }
            .Does(async (call, cancel) =>
            {
                await call.Routerd.DeleteAsync(Path(call.Get(email)), cancel);
                Removed.Print(call, call.Get(email), $"{call.Get(email)} is removed");
            });
    }

    public static Argument<string> Email()
    {
        var argument = new Argument<string>("EMAIL") { Description = "The user's email address" };
        argument.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && (Arguments.UnknownOption(token.Value)
                ?? (token.Value.Contains('@', StringComparison.Ordinal) ? null : $"'{token.Value}' is no email address")) is { } fault)
                result.AddError(fault);
        });
        return argument;
    }

    private static string Path(string email) => "v1/users/" + Uri.EscapeDataString(email);

    private static Task<Answer<User>> ChangeAsync(Call call, string email, UserChange change, CancellationToken cancel) =>
        call.Routerd.PatchAsync<UserChange, User>(Path(email), change, cancel);

    private static void Print(Call call, Answer<User> answer)
    {
        if (call.Json)
        {
            Output.Json(answer.Json);
            return;
        }
        var user = answer.Value;
        Output.Pairs(
        [
            ("email", user.Email), ("role", user.Role), ("state", user.State), ("apps", user.Apps.ToString()),
            ("teams", string.Join(' ', user.Teams ?? [])), ("signs in by", string.Join(' ', user.Providers ?? [])), ("created", Output.Ago(user.CreatedAt)), ("seen", Output.Ago(user.LastSeenAt)),
            .. Quotas.Show(user.Quota, user.Usage),
        ]);
    }

    private static void Print(Call call, Answer<Invitation> answer)
    {
        if (call.Json)
        {
            Output.Json(answer.Json);
            return;
        }
        var invitation = answer.Value;
        Output.Note($"for {invitation.Email}, {Tokens.Expires(invitation.ExpiresAt)}: appoxy users accept {call.Routerd.Url}, which asks for this:");
        Output.Line(invitation.Token);
    }
}

/// <summary>Quotas on the command line: <c>apps=20 memory=8g</c>.</summary>
internal static class Quotas
{
    private static readonly (string Name, Func<Quota, string?> Of, Func<Quota, string, Quota> With)[] All =
    [
        ("apps", q => q.Apps, (q, v) => q with { Apps = v }), ("memory", q => q.Memory, (q, v) => q with { Memory = v }),
        ("cpus", q => q.Cpus, (q, v) => q with { Cpus = v }), ("builds", q => q.Builds, (q, v) => q with { Builds = v }),
        ("builds-per-day", q => q.BuildsPerDay, (q, v) => q with { BuildsPerDay = v }), ("teams", q => q.Teams, (q, v) => q with { Teams = v }),
    ];

    public static Argument<string[]> Argument()
    {
        var pairs = Arguments.Pairs("KEY=VALUE", $"{string.Join(", ", All.Select(k => k.Name))}; unlimited, or default", required: true);
        pairs.Validators.Add(result =>
        {
            if (result.Tokens.FirstOrDefault(t => All.All(k => !t.Value.StartsWith(k.Name + "=", StringComparison.Ordinal))) is { } odd)
                result.AddError(Arguments.UnknownOption(odd.Value) ?? $"'{odd.Value}' is not KEY=VALUE with one of {string.Join(", ", All.Select(k => k.Name))}");
        });
        return pairs;
    }

    public static Quota Parse(string[] pairs) => pairs.Aggregate(new Quota(), (quota, pair) =>
        All.Single(k => pair.StartsWith(k.Name + "=", StringComparison.Ordinal)).With(quota, pair[(pair.IndexOf('=', StringComparison.Ordinal) + 1)..]));

    /// <summary>What is used, and of how much.</summary>
    public static IEnumerable<(string Name, string? Value)> Show(Quota? quota, Quota? usage) => quota is null ? []
        : All.Where(k => k.Of(quota) is not null).Select(k => (k.Name, (string?)$"{(usage is null ? null : k.Of(usage)) ?? "0"} of {k.Of(quota)}"));
}
