using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy teams</c>: users who own apps together.</summary>
internal static class Teams
{
    public static Command Define() => new("teams", "Makes, lists, shows and changes teams.")
    {
        Create(), List(), Info(), Add(), Remove(), SetQuota(), Delete(),
    };

    private static Verb Create()
    {
        var team = Name();
        return new Verb("create", "Makes a team; apps create NAME --team makes its apps.", "appoxy teams create acme") { team }
            .Does(async (call, cancel) => Print(call, await call.Routerd.PostAsync<Team, Team>("v1/teams", new Team { Name = call.Get(team) }, cancel)));
    }

    private static Verb List() => new Verb("list", "Lists one's own teams.", "appoxy teams list").Does(async (call, cancel) =>
    {
        var teams = await call.Routerd.ListAsync<Team>("v1/teams", cancel);
        if (call.Json)
            Output.Json(teams.Items);
        else
            Output.Table(teams.Value.Items, ("TEAM", t => t.Name), ("APPS", t => t.Apps?.ToString()));
    });

    private static Verb Info()
    {
        var team = Name();
        return new Verb("info", "Shows a team and its members.", "appoxy teams info acme") { team }
            .Does(async (call, cancel) => Print(call, await call.Routerd.GetAsync<Team>(Path(call.Get(team)), cancel)));
    }

    private static Verb Add()
    {
        var (team, email, role) = (Name(), Users.Email(), Collaborators.Role("view", "deploy", "manage", "owner"));
        return new Verb("add", "Takes a user into a team, or changes what a member may with its apps.",
            "appoxy teams add acme ann@example.com", "appoxy teams add acme ann@example.com --role owner") { team, email, role }
            .Does(async (call, cancel) => Collaborators.Print(call, await call.Routerd.PutAsync<Collaborator, Collaborator>(
                Member(call.Get(team), call.Get(email)), new Collaborator(Role: call.Get(role)), cancel), $"in the team {call.Get(team)}"));
    }

    private static Verb Remove()
    {
        var (team, email) = (Name(), Users.Email());
        return new Verb("remove", "Puts a member out of a team.", "appoxy teams remove acme ann@example.com") { team, email }
            .Does(async (call, cancel) =>
            {
                await call.Routerd.DeleteAsync(Member(call.Get(team), call.Get(email)), cancel);
                Removed.Print(call, call.Get(email), $"{call.Get(email)} is in the team {call.Get(team)} no more");
            });
    }

    private static Verb SetQuota()
    {
        var (team, pairs) = (Name(), Quotas.Argument());
        return new Verb("set-quota", "Bounds what all apps of a team may have together; for admins.", "appoxy teams set-quota acme apps=50 memory=16g") { team, pairs }
            .Does(async (call, cancel) => Print(call, await call.Routerd.PatchAsync<Team, Team>(
                Path(call.Get(team)), new Team { Quota = Quotas.Parse(call.Get(pairs)) }, cancel)));
    }

    private static Verb Delete()
    {
        var team = Name();
        return new Verb("delete", "Removes a team that owns no app.", "appoxy teams delete acme") { team }.Does(async (call, cancel) =>
        {
            await call.Routerd.DeleteAsync(Path(call.Get(team)), cancel);
            Removed.Print(call, call.Get(team), $"the team {call.Get(team)} is gone");
        });
    }

    private static Argument<string> Name() => new("TEAM") { Description = "The team's name" };

    private static string Path(string team) => "v1/teams/" + Uri.EscapeDataString(team);

    private static string Member(string team, string email) => $"{Path(team)}/members/{Uri.EscapeDataString(email)}";

    private static void Print(Call call, Answer<Team> answer)
    {
        if (call.Json)
        {
            Output.Json(answer.Json);
            return;
        }
        var team = answer.Value;
        Output.Pairs([("team", team.Name), .. Quotas.Show(team.Quota, team.Usage), .. (team.Members ?? []).Select(m => (m.Role ?? "", m.Email))]);
    }
}

/// <summary><c>appoxy collaborators</c>: who else may do something with an app.</summary>
internal static class Collaborators
{
    public static Command Define() => new("collaborators", "Lists, adds and removes those who may do something with an app.") { List(), Add(), Remove() };

    private static Verb List()
    {
        var name = Arguments.App();
        return new Verb("list", "Lists who may do something with an app, and what.", "appoxy collaborators list shop") { name }.Does(async (call, cancel) =>
        {
            var all = await call.Routerd.GetAsync<Page<Collaborator>>(Routerd.App(call.Get(name), "collaborators"), cancel);
            if (call.Json)
                Output.Json(all.Items);
            else
                Output.Table(all.Value.Items, ("EMAIL", c => c.Email), ("ROLE", c => c.Role), ("TEAM", c => c.Team));
        });
    }

    private static Verb Add()
    {
        var (name, email, role) = (Arguments.App(), Users.Email(), Role("view", "deploy", "manage"));
        return new Verb("add", "Lets a user view, deploy or manage an app, or changes that.",
            "appoxy collaborators add shop ann@example.com", "appoxy collaborators add shop ann@example.com --role manage") { name, email, role }
            .Does(async (call, cancel) => Print(call, await call.Routerd.PutAsync<Collaborator, Collaborator>(
                Path(call.Get(name), call.Get(email)), new Collaborator(Role: call.Get(role)), cancel), $"of {call.Get(name)}"));
    }

    private static Verb Remove()
    {
        var (name, email) = (Arguments.App(), Users.Email());
        return new Verb("remove", "Takes away what a user may do with an app.", "appoxy collaborators remove shop ann@example.com") { name, email }
            .Does(async (call, cancel) =>
            {
                await call.Routerd.DeleteAsync(Path(call.Get(name), call.Get(email)), cancel);
                Removed.Print(call, call.Get(email), $"{call.Get(email)} is no collaborator of {call.Get(name)} any more");
            });
    }

    public static Option<string> Role(params string[] roles)
    {
        var role = new Option<string>("--role")
        {
            Description = $"{string.Join(", ", roles[..^1])} or {roles[^1]}; each may do what those before it may", HelpName = "ROLE",
            DefaultValueFactory = _ => "deploy",
        };
        role.AcceptOnlyFromAmong(roles);
        return role;
    }

    public static void Print(Call call, Answer<Collaborator> answer, string of)
    {
        if (call.Json)
            Output.Json(answer.Json);
        else
            Output.Line($"{answer.Value.Email} has the role {answer.Value.Role} {of}");
    }

    private static string Path(string app, string email) => Routerd.App(app, $"collaborators/{Uri.EscapeDataString(email)}");
}

/// <summary><c>appoxy audit</c>: who did what.</summary>
internal static class Audits
{
    public static Verb Define()
    {
        var app = new Option<string?>("--app") { Description = "Only what was done with this app", HelpName = "NAME" };
        var user = new Option<string?>("--user") { Description = "Only what this user did", HelpName = "EMAIL" };
        var since = new Option<string?>("--since") { Description = "An age such as 24h, or a time such as 2026-11-25T10:00:00Z", HelpName = "T" };
        var limit = Arguments.Count("--limit", "How many at most; else 100", 1);
        return new Verb("audit", "Shows who changed what, newest first: admins all, others what they and their own apps have to do with.",
            "appoxy audit --app shop --since 24h", "appoxy audit --user ann@example.com --limit 1000 --json") { app, user, since, limit }
            .Does(async (call, cancel) =>
            {
                var query = string.Join('&', new[] { ("app", call.Get(app)), ("user", call.Get(user)), ("since", call.Get(since)) }
                    .Where(p => p.Item2 is not null).Select(p => $"{p.Item1}={Uri.EscapeDataString(p.Item2!)}"));
                var items = await call.Routerd.ListAsync<AuditItem>("v1/audit" + (query.Length > 0 ? "?" + query : ""), cancel, call.Get(limit) ?? 100);
                if (call.Json)
                    Output.Json(items.Items);
                else
                    Output.Table(items.Value.Items, ("WHEN", i => i.At.UtcDateTime.ToString("yyyy-MM-dd HH:mm:ss")), ("WHO", i => i.User), ("TOKEN", i => i.Token),
                        ("FROM", i => i.Client), ("STATUS", i => i.Status?.ToString()), ("OPERATION", i => i.Operation), ("TARGET", i => i.Target), ("DETAIL", i => i.Detail));
            });
    }
}
