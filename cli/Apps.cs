using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy apps</c>: makes, lists, shows and destroys apps.</summary>
internal static class Apps
{
    public static Command Define() => new("apps", "Makes, lists, shows and destroys apps.") { Create(), List(), Info(), Transfer(), Destroy() };

    private static Verb Create()
    {
        var name = Arguments.App();
        var settings = Settings.Argument();
        var server = Arguments.ServerOption("--server", "The droid-server that it is to be on, for good: the same as constraint=server=SERVER");
        var constraint = new Option<string?>("--constraint")
            { Description = "Labels that its droid-server must have, as zone=eu,disk!=slow: the same as constraint=…", HelpName = "K=V" };
        constraint.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && Labels.Parse(token.Value) is null)
                result.AddError($"--constraint is '{token.Value}': give labels such as zone=eu,disk!=slow");
        });
        var team = new Option<string?>("--team") { Description = "The team that owns it; else you do", HelpName = "TEAM" };
        return new Verb("create", "Makes a new app, which then waits for its first deployment.",
            "appoxy apps create shop", "appoxy apps create shop memory=256m snooze-after=10m", "appoxy apps create shop --team acme",
            "appoxy apps create shop --constraint zone=eu") { name, settings, server, constraint, team }
            .Does(async (call, cancel) =>
            {
                var pairs = call.Get(settings);
                string?[] asked = [call.Get(server) is { } one ? $"{Labels.Server}={one}" : null, call.Get(constraint)];
                if (asked.OfType<string>().ToList() is { Count: > 0 } constraints)
                    pairs = [.. pairs, $"constraint={string.Join(',', constraints)}"];
                var body = new NewApp(call.Get(name), pairs.Length == 0 ? null : Settings.Parse(pairs), call.Get(team));
                var app = await call.Routerd.PostAsync<NewApp, App>("v1/apps", body, cancel);
                Completion.Forget(call.Connection);
                if (call.Json)
                    Output.Json(app.Json);
                else
                    Output.Line($"{app.Value.Name} will be at {app.Value.Url} once it is deployed");
            });
    }

    private static Verb List() => new Verb("list", "Lists the apps.", "appoxy apps list").Does(async (call, cancel) =>
    {
        var apps = await call.Routerd.ListAsync<App>("v1/apps", cancel);
        if (call.Json)
            Output.Json(apps.Items);
        else
            Output.Table(apps.Value.Items, ("NAME", a => a.Name), ("URL", a => a.Url), ("DEPLOYMENT", Newest), ("OWNER", a => a.Owner),
                ("SERVER", a => a.Server),
                ("CREATED", a => Output.Ago(a.CreatedAt)));
    });

    private static Verb Info()
    {
        var name = Arguments.App();
        return new Verb("info", "Shows one app.", "appoxy apps info shop") { name }.Does(async (call, cancel) =>
        {
            var answer = await call.Routerd.GetAsync<App>(Routerd.App(call.Get(name)), cancel);
            if (call.Json)
            {
                Output.Json(answer.Json);
                return;
            }
            var app = answer.Value;
            Output.Pairs(
            [
                ("name", app.Name), ("owner", app.Owner), ("role", app.Role), ("uid", app.Uid), ("url", app.Url), ("git", app.GitUrl), ("domains", string.Join(' ', app.Domains)), ("server", app.Server),
                ("moves", app.Move is { } move ? Move.Words(move) : null),
                ("created", Output.Ago(app.CreatedAt)), ("deployment", Newest(app)),
                ("source", app.Deployment is { } newest ? Deployments.Source(newest.Source) : null), ("error", app.Deployment?.Error),
                .. Settings.Show(app.Settings),
            ]);
        });
    }

    private static Verb Transfer()
    {
        var name = Arguments.App();
        var team = new Option<string?>("--team") { Description = "The team that gets it", HelpName = "TEAM" };
        var email = new Option<string?>("--to") { Description = "The user who gets it; for others than oneself, admins only", HelpName = "EMAIL" };
        return new Verb("transfer", "Gives an app to another owner.", "appoxy apps transfer shop --team acme",
            "appoxy apps transfer shop --to ann@example.com") { name, team, email }
            .Does(async (call, cancel) =>
            {
                var to = new NewOwner(call.Get(email), call.Get(team));
                await call.Routerd.PostJsonAsync(Routerd.App(call.Get(name), "transfer"), to, cancel);
                if (call.Json)
                    Output.Json(json =>
                    {
                        json.WriteStartObject();
                        json.WriteString("owner", to.Email ?? to.Team);
                        json.WriteEndObject();
                    });
                else
                    Output.Line($"{call.Get(name)} is {to.Email ?? to.Team}'s");
            }, parsed => parsed.GetValue(team) is null == parsed.GetValue(email) is null ? "say who gets it: --team TEAM or --to EMAIL" : null);
    }

    private static Verb Destroy()
    {
        var name = Arguments.App();
        var confirm = new Option<string?>("--confirm") { Description = "The app's name once more", HelpName = "NAME" };
        return new Verb("destroy", "Destroys an app: its containers, deployments, domains and settings.",
            "appoxy apps destroy shop --confirm shop") { name, confirm }
            .Does(async (call, cancel) =>
            {
                var app = call.Get(name);
                if ((call.Get(confirm) ?? Ask(app)) != app)
                    throw Failure.Usage($"that is not '{app}': nothing was destroyed");
                await call.Routerd.DeleteAsync(Routerd.App(app), cancel);
                Completion.Forget(call.Connection);
                if (call.Json)
                    Output.Json(json =>
                    {
                        json.WriteStartObject();
                        json.WriteString("destroyed", app);
                        json.WriteEndObject();
                    });
                else
                    Output.Line($"{app} is destroyed");
            });
    }

    private static string? Newest(App app) => app.Deployment is { } newest ? $"{newest.Number} {newest.State}" : null;

    private static string? Ask(string app)
    {
        if (Console.IsInputRedirected || Console.IsErrorRedirected)
            throw Failure.Usage($"to destroy {app} with all that belongs to it, add --confirm {app}");
        Console.Error.Write($"This destroys {app} with all that belongs to it. Type its name to go on: ");
        return Console.ReadLine();
    }
}
