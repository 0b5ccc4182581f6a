using System.Net;
using System.Text.Json;
using CliWrap;
using CliWrap.Buffered;

namespace Appoxy.Tests.Acceptance;

[Collection(ThirdLane.Name)]
public sealed class UserTests(Install install)
{
    private Member Admin => new(install, "admin@localhost", install.Token);

    [Fact]
    public async Task A_token_reaches_as_far_as_its_scope_and_app_and_no_longer_than_told()
    {
        var ann = await Member.MakeAsync(install, "ann@tokens.test");
        await ann.PostAsync("v1/apps", """{"name":"tok-shop"}""");
        await ann.PostAsync("v1/apps", """{"name":"tok-other"}""");
        await ann.SendAsync(HttpMethod.Patch, "v1/apps/tok-shop/env", """{"KEY":"planted-secret"}""");

        var created = JsonDocument.Parse((await AppoxyAsync(ann.Token, [], "tokens", "create", "ci", "--scope", "deploy", "--app", "tok-shop", "--json")).Output).RootElement;
        var token = created.GetProperty("token").GetString()!;
        Assert.Equal(0, (await AppoxyAsync(token, [], "apps", "info", "tok-shop")).ExitCode);
        Assert.Equal(1, (await AppoxyAsync(token, [], "rollback", "tok-shop")).ExitCode);
        var env = await AppoxyAsync(token, [], "env", "list", "tok-shop");
        Assert.True(env.ExitCode == 4 && !env.ToString().Contains("planted", StringComparison.Ordinal), env.ToString());
        Assert.Contains("needs a token with the scope write", env.Error, StringComparison.Ordinal);
        Assert.Equal(3, (await AppoxyAsync(token, [], "apps", "info", "tok-other")).ExitCode);
        Assert.Equal(["tok-shop"], JsonDocument.Parse((await AppoxyAsync(token, [], "apps", "list", "--json")).Output).RootElement
            .EnumerateArray().Select(a => a.GetProperty("name").GetString()));
        Assert.Equal(4, (await AppoxyAsync(token, [], "tokens", "create", "more", "--scope", "read")).ExitCode);
        // None reaches further than the one it was made with.
        Assert.Equal(4, (await AppoxyAsync(ann.Token, [], "tokens", "create", "root", "--scope", "admin")).ExitCode);
        Assert.Equal(2, (await AppoxyAsync(ann.Token, [], "tokens", "create", "odd", "--scope", "all")).ExitCode);

        // Shown once, kept as a hash.
        var list = await AppoxyAsync(ann.Token, [], "tokens", "list", "--json");
        Assert.DoesNotContain(token[4..], list.Output, StringComparison.Ordinal);
        Assert.Equal("0", await install.SqlAsync($"select count(*) from tokens t where t::text like '%{token[4..]}%'"));
        Assert.Contains(JsonDocument.Parse(list.Output).RootElement.EnumerateArray(), t => t.GetProperty("name").GetString() == "ci" && t.TryGetProperty("lastUsedAt", out _));

        Assert.Equal(0, (await AppoxyAsync(ann.Token, [], "tokens", "revoke", $"{created.GetProperty("id").GetInt64()}")).ExitCode);
        Assert.Equal(4, (await AppoxyAsync(token, [], "apps", "info", "tok-shop")).ExitCode);
        var brief = await ann.TokenAsync("""{"name":"brief","scope":"read","expires":"1s"}""");
        await Install.EventuallyAsync(async () => (await ann.With(brief).GetAsync("v1/apps")).Status == HttpStatusCode.Unauthorized, TimeSpan.FromSeconds(5));
        await RemoveAsync("tokens.test", "tok-shop", "tok-other");
    }

    [Fact]
    public async Task An_invited_user_sets_a_password_once_and_is_out_at_once_when_disabled()
    {
        var invited = await install.AppoxyAsync("users", "invite", "Ben@users.test");
        var invitation = invited.Output.Trim();
        Assert.StartsWith("inv_", invitation, StringComparison.Ordinal);
        Assert.Equal(2, (await AcceptAsync(invitation, "short")).ExitCode);
        Assert.Equal(0, (await AcceptAsync(invitation, "first password")).ExitCode);
        Assert.Equal(3, (await AcceptAsync(invitation, "other password")).ExitCode);

        // Signed in by the CLI, with a home of its own.
        var home = Directory.CreateTempSubdirectory("appoxy-home-");
        (string, string?)[] alone = [("HOME", home.FullName), ("XDG_CONFIG_HOME", null), ("APPOXY_URL", null), ("APPOXY_TOKEN", null)];
        var url = $"http://127.0.0.1:{install.ConsolePort}/";
        Assert.Equal(4, (await AppoxyAsync("", alone, "wrong password\n", "login", url, "--email", "ben@users.test")).ExitCode);
        Assert.Equal(0, (await AppoxyAsync("", alone, "first password\n", "login", url, "--email", "ben@users.test")).ExitCode);
        Assert.Contains("Ben@users.test", (await AppoxyAsync("", alone, "whoami")).Output, StringComparison.Ordinal);
        Assert.Equal(4, (await AppoxyAsync("", alone, "users", "list")).ExitCode);
        // Another sign-in, and a token, which a new password does not end.
        var other = JsonDocument.Parse((await new Member(install, "", "").SendAsync(HttpMethod.Post, "v1/tokens",
            """{"email":"ben@users.test","password":"first password"}""")).Text).RootElement.GetProperty("token").GetString()!;
        var kept = (await AppoxyAsync("", alone, "tokens", "create", "kept")).Output.Trim();
        Assert.Equal(0, (await AppoxyAsync("", alone, "first password\nsecond password\n", "password")).ExitCode);
        Assert.Equal(4, (await AppoxyAsync(other, [], "whoami")).ExitCode);
        Assert.Equal(0, (await AppoxyAsync(kept, [], "whoami")).ExitCode);
        Assert.Equal(0, (await AppoxyAsync("", alone, "whoami")).ExitCode);

        // An admin lets a forgotten password be set anew.
        var reset = (await install.MustAsync("users", "reset-password", "ben@users.test")).Trim();
        Assert.Equal(0, (await AcceptAsync(reset, "third password")).ExitCode);
        Assert.Equal(4, (await AppoxyAsync("", alone, "whoami")).ExitCode);
        Assert.Equal(0, (await AppoxyAsync("", alone, "third password\n", "login", url, "--email", "ben@users.test")).ExitCode);

        Assert.Contains("disabled", await install.MustAsync("users", "disable", "ben@users.test"), StringComparison.Ordinal);
        Assert.Equal(4, (await AppoxyAsync("", alone, "whoami")).ExitCode);
        Assert.Equal(4, (await AppoxyAsync(kept, [], "whoami")).ExitCode);
        Assert.Equal(4, (await AppoxyAsync("", alone, "third password\n", "login", url, "--email", "ben@users.test")).ExitCode);
        await install.MustAsync("users", "enable", "ben@users.test");
        Assert.Equal(0, (await AppoxyAsync("", alone, "third password\n", "login", url, "--email", "ben@users.test")).ExitCode);
        await install.MustAsync("users", "remove", "ben@users.test");
        Assert.Equal(3, (await install.AppoxyAsync("users", "info", "ben@users.test")).ExitCode);
        home.Delete(recursive: true);
    }

    [Fact]
    public async Task The_last_admin_stays_however_many_are_demoted_at_once()
    {
        foreach (var arguments in new[] { new[] { "set-role", "admin@localhost", "member" }, ["disable", "admin@localhost"], ["remove", "admin@localhost"] })
            Assert.Equal(1, (await install.AppoxyAsync(["users", .. arguments])).ExitCode);
        await Member.MakeAsync(install, "second@admins.test");
        await install.SqlAsync("update users set role = 'admin', password_hash = 'x' where email = 'second@admins.test'");
        var both = await Task.WhenAll(new[] { "admin@localhost", "second@admins.test" }.Select(e =>
            Admin.SendAsync(HttpMethod.Patch, "v1/users/" + e, """{"role":"member"}""")));
        Assert.Equal("1", await install.SqlAsync("select count(*) from users where role = 'admin'"));
        Assert.True(both.Count(a => a.Status == HttpStatusCode.OK) == 1, string.Join('\n', both));
        await install.SqlAsync("update users set role = 'admin' where email = 'admin@localhost'; delete from users where email like '%@admins.test'");
    }

    [Fact]
    public async Task Sign_ins_tell_nothing_of_who_is_there_and_are_slowed_for_an_account_and_for_an_address()
    {
        await Member.MakeAsync(install, "there@slow.test");
        await install.SqlAsync("update users set password_hash = (select password_hash from users where email = 'admin@localhost') where email = 'there@slow.test'");
        var wrong = await SignInAsync("there@slow.test", "198.51.100.1");
        Assert.Equal(HttpStatusCode.Unauthorized, wrong.Status);
        Assert.Equal(wrong, await SignInAsync("absent@slow.test", "198.51.100.1"));
        // An account, from ever other addresses.
        var tries = 1;
        while ((await SignInAsync("there@slow.test", $"198.51.101.{tries}")).Status != HttpStatusCode.TooManyRequests && tries < 50)
            tries++;
        Assert.InRange(tries, 15, 41);
        // An address, with ever other accounts.
        var answers = new List<HttpStatusCode>();
        while (answers.Count < 150 && !answers.Contains(HttpStatusCode.TooManyRequests))
            answers.AddRange((await Task.WhenAll(Enumerable.Range(answers.Count, 10).Select(i => SignInAsync($"user{i}@slow.test", "198.51.100.9")))).Select(a => a.Status));
        Assert.Contains(HttpStatusCode.TooManyRequests, answers);
        Assert.InRange(answers.Count(a => a == HttpStatusCode.Unauthorized), 40, 121);
        await install.SqlAsync("delete from users where email like '%@slow.test'");

        async Task<(HttpStatusCode Status, string Text)> SignInAsync(string email, string from)
        {
            var (status, text) = await new Member(install, "", "").SendAsync(HttpMethod.Post, "v1/tokens",
                $$"""{"email":"{{email}}","password":"not this one"}""", ("X-Real-IP", from));
            return (status, AccessTests.RequestIds().Replace(text, ""));
        }
    }

    [Fact]
    public async Task Collaborators_and_members_of_a_team_may_what_their_role_says()
    {
        var (owner, friend, stranger) = (await Member.MakeAsync(install, "owner@teams.test"), await Member.MakeAsync(install, "friend@teams.test"),
            await Member.MakeAsync(install, "stranger@teams.test"));
        await owner.PostAsync("v1/apps", """{"name":"team-shop"}""");
        Assert.Equal(3, (await AppoxyAsync(friend.Token, [], "env", "list", "team-shop")).ExitCode);
        foreach (var (role, view, deploy, env, destroy) in new[] { ("view", 0, 4, 4, 4), ("deploy", 0, 1, 4, 4), ("manage", 0, 1, 0, 4) })
        {
            Assert.Equal(0, (await AppoxyAsync(owner.Token, [], "collaborators", "add", "team-shop", friend.Email, "--role", role)).ExitCode);
            Assert.Equal((role, view, deploy, env, destroy), (role, await CodeAsync(friend, "apps", "info", "team-shop"), await CodeAsync(friend, "rollback", "team-shop"),
                await CodeAsync(friend, "env", "list", "team-shop"), await CodeAsync(friend, "apps", "destroy", "team-shop", "--confirm", "team-shop")));
        }
        Assert.Equal(4, await CodeAsync(friend, "collaborators", "add", "team-shop", stranger.Email));
        Assert.Contains("team-shop", (await friend.GetAsync("v1/apps")).Text, StringComparison.Ordinal);
        Assert.Equal(0, await CodeAsync(owner, "collaborators", "remove", "team-shop", friend.Email));
        Assert.Equal(3, await CodeAsync(friend, "apps", "info", "team-shop"));

        Assert.Equal(0, await CodeAsync(owner, "teams", "create", "acme"));
        Assert.Equal(3, await CodeAsync(friend, "teams", "info", "acme"));
        Assert.Equal(0, await CodeAsync(owner, "teams", "add", "acme", friend.Email, "--role", "manage"));
        Assert.Equal(4, await CodeAsync(friend, "teams", "add", "acme", stranger.Email));
        Assert.Equal(0, await CodeAsync(owner, "apps", "transfer", "team-shop", "--team", "acme"));
        Assert.Equal(0, await CodeAsync(friend, "env", "list", "team-shop"));
        Assert.Equal(0, await CodeAsync(friend, "apps", "create", "team-next", "--team", "acme"));
        Assert.Equal(3, await CodeAsync(stranger, "apps", "create", "team-third", "--team", "acme"));
        Assert.Equal(4, await CodeAsync(friend, "apps", "transfer", "team-next", "--to", friend.Email));
        // Nobody is given what they did not ask for.
        Assert.Equal(4, await CodeAsync(owner, "apps", "transfer", "team-next", "--to", stranger.Email));
        Assert.Equal(0, await CodeAsync(owner, "apps", "transfer", "team-next", "--to", owner.Email));
        Assert.Equal(1, await CodeAsync(owner, "teams", "remove", "acme", owner.Email));
        Assert.Equal(1, await CodeAsync(owner, "teams", "delete", "acme"));
        Assert.Equal(1, (await install.AppoxyAsync("users", "remove", owner.Email)).ExitCode);
        Assert.Equal(0, await CodeAsync(friend, "teams", "remove", "acme", friend.Email));
        Assert.Equal(3, await CodeAsync(friend, "apps", "info", "team-shop"));
        await RemoveAsync("teams.test", "team-shop", "team-next");
        await install.SqlAsync("delete from teams where name = 'acme'");
    }

    [Fact]
    public async Task A_quota_holds_against_requests_at_once()
    {
        var user = await Member.MakeAsync(install, "quota@quotas.test");
        await install.MustAsync("users", "set-quota", user.Email, "apps=3", "memory=2g", "builds-per-day=1");
        var made = await Task.WhenAll(Enumerable.Range(0, 12).Select(i => user.SendAsync(HttpMethod.Post, "v1/apps", $$"""{"name":"quota-{{i}}"}""")));
        Assert.Equal(3, made.Count(m => m.Status == HttpStatusCode.Created));
        Assert.All(made.Where(m => m.Status != HttpStatusCode.Created), m => Assert.True(
            m.Status == HttpStatusCode.Forbidden && m.Text.Contains("Quota apps is 3", StringComparison.Ordinal), m.ToString()));
        Assert.Equal("3", await install.SqlAsync("select count(*) from apps where name like 'quota-%'"));

        // 3 × 512m are there; two of these are too much, in whatever order.
        var names = (await install.SqlAsync("select name from apps where name like 'quota-%' order by 1")).Split('\n');
        var raised = await Task.WhenAll(
            user.SendAsync(HttpMethod.Patch, "v1/apps/" + names[0], """{"memory":"1g"}"""), user.SendAsync(HttpMethod.Patch, $"v1/apps/{names[1]}/scale", """{"web":2}"""));
        Assert.True(raised.Count(r => r.Status == HttpStatusCode.OK) == 1, string.Join('\n', raised));
        Assert.Contains("Quota memory is 2g", raised.Single(r => r.Status == HttpStatusCode.Forbidden).Text, StringComparison.Ordinal);
        // Less is always allowed.
        Assert.Equal(0, await CodeAsync(user, "settings", names[2], "memory=256m"));

        var built = await Task.WhenAll(names.Select(n => user.SendAsync(HttpMethod.Post, $"v1/apps/{n}/deployments",
            """{"source":{"git":{"url":"https://git.invalid/a","ref":"main"}}}""")));
        Assert.True(built.Count(b => b.Status == HttpStatusCode.Accepted) == 1, string.Join('\n', built));
        Assert.Contains("Quota buildsPerDay is 1", built.First(b => b.Status == HttpStatusCode.Forbidden).Text, StringComparison.Ordinal);
        Assert.Contains("3 of 3", await install.MustAsync("users", "info", user.Email), StringComparison.Ordinal);
        Assert.Equal(4, await CodeAsync(user, "users", "set-quota", user.Email, "apps=30"));
        await RemoveAsync("quotas.test", names);
    }

    [Fact]
    public async Task The_audit_log_tells_who_did_what_from_where_and_never_a_value()
    {
        var (ann, ben) = (await Member.MakeAsync(install, "ann@audit.test"), await Member.MakeAsync(install, "ben@audit.test"));
        await ann.PostAsync("v1/apps", """{"name":"audit-shop"}""");
        await ann.SendAsync(HttpMethod.Patch, "v1/apps/audit-shop/env", """{"API_KEY":"planted-value"}""", ("X-Real-IP", "203.0.113.7"));
        await ben.SendAsync(HttpMethod.Delete, "v1/apps/audit-shop", null);
        await new Member(install, "", "").SendAsync(HttpMethod.Post, "v1/tokens", """{"email":"ann@audit.test","password":"planted-password"}""");

        var own = JsonDocument.Parse((await AppoxyAsync(ann.Token, [], "audit", "--json", "--since", "1h")).Output).RootElement.EnumerateArray().ToList();
        var env = own.Single(i => i.GetProperty("operation").GetString() == "PATCH /v1/apps/{app}/env");
        Assert.Equal(("ann@audit.test", "test", "API_KEY", 200, "203.0.113.7", "/v1/apps/audit-shop/env"), (env.GetProperty("user").GetString(),
            env.GetProperty("token").GetString(), env.GetProperty("detail").GetString(), env.GetProperty("status").GetInt32(),
            env.GetProperty("client").GetString(), env.GetProperty("target").GetString()));
        Assert.Contains(own, i => i.GetProperty("target").GetString() == "/v1/apps/audit-shop" && i.GetProperty("status").GetInt32() == 201);
        Assert.Contains(own, i => i.GetProperty("user").GetString() == "ben@audit.test" && i.GetProperty("status").GetInt32() == 404);
        Assert.Contains(own, i => i.GetProperty("operation").GetString() == "sign in" && i.GetProperty("status").GetInt32() == 401);
        Assert.DoesNotContain("planted", string.Join('\n', own), StringComparison.Ordinal);
        // Ben sees what he tried, and nothing of Ann's.
        Assert.Equal(1, JsonDocument.Parse((await AppoxyAsync(ben.Token, [], "audit", "--json")).Output).RootElement.GetArrayLength());
        Assert.Equal(3, await CodeAsync(ben, "audit", "--app", "audit-shop"));
        Assert.Contains("audit-shop", await install.MustAsync("audit", "--app", "audit-shop", "--user", "ann@audit.test"), StringComparison.Ordinal);

        // Nobody who can write to the table takes back what it says.
        foreach (var change in new[] { "delete from audit", "update audit set user_email = 'x'", "truncate audit" })
            Assert.NotEqual(0, (await install.RunAsync("psql", ["-Xq", "-v", "ON_ERROR_STOP=1", "-c", change, install.Installed("database_url")])).ExitCode);
        await RemoveAsync("audit.test", "audit-shop");
    }

    [Fact]
    public async Task An_address_in_the_audit_log_is_what_the_global_nginx_saw_whatever_the_caller_says()
    {
        var ann = await Member.MakeAsync(install, "ann@address.test");
        using var http = install.Site("console.localhost");
        using var request = new HttpRequestMessage(HttpMethod.Post, "v1/apps") { Content = new StringContent("{}", System.Text.Encoding.UTF8, "application/json") };
        request.Headers.Authorization = new("Bearer", ann.Token);
        foreach (var header in new[] { "X-Real-IP", "X-Forwarded-For", "Forwarded" })
            request.Headers.TryAddWithoutValidation(header, header == "Forwarded" ? "for=203.0.113.9" : "203.0.113.9");
        Assert.Equal(HttpStatusCode.BadRequest, (await http.SendAsync(request)).StatusCode);
        Assert.Equal("127.0.0.1 400", await install.SqlAsync("select client || ' ' || status from audit where user_email = 'ann@address.test'"));
        await install.SqlAsync("delete from users where email like '%@address.test'");
    }

    [Fact]
    public async Task A_browsers_session_changes_things_from_the_consoles_own_pages_alone()
    {
        var password = (await File.ReadAllTextAsync(install.Installed("admin_password_file"))).Trim();
        var body = $$"""{"email":"admin@localhost","password":"{{password}}"}""";
        var nobody = new Member(install, "", "");
        var origin = ("Origin", $"http://127.0.0.1:{install.ConsolePort}");
        Assert.Equal(HttpStatusCode.Forbidden, (await nobody.SendAsync(HttpMethod.Post, "v1/session", body)).Status);
        Assert.Equal(HttpStatusCode.Forbidden, (await nobody.SendAsync(HttpMethod.Post, "v1/session", body, ("Origin", "https://evil.test"))).Status);
        using var http = install.Site("console.localhost");
        using var request = new HttpRequestMessage(HttpMethod.Post, "v1/session") { Content = new StringContent(body, System.Text.Encoding.UTF8, "application/json") };
        request.Headers.Add("Sec-Fetch-Site", "same-origin");
        using var signedIn = await http.SendAsync(request);
        var cookie = signedIn.Headers.GetValues("Set-Cookie").Single();
        Assert.Contains("httponly", cookie, StringComparison.OrdinalIgnoreCase);
        Assert.Contains("samesite=lax", cookie, StringComparison.OrdinalIgnoreCase);
        var session = ("Cookie", cookie.Split(';')[0]);
        Assert.Contains("admin@localhost", (await nobody.SendAsync(HttpMethod.Get, "v1/account", null, session)).Text, StringComparison.Ordinal);
        foreach (var headers in new (string, string)[][] { [session], [session, ("Origin", "https://evil.test")], [session, ("Origin", "null")],
            [session, origin, ("Sec-Fetch-Site", "cross-site")], [session, ("Sec-Fetch-Site", "same-site")], [session, ("Sec-Fetch-Site", "none")] })
            Assert.Equal(HttpStatusCode.Forbidden, (await nobody.SendAsync(HttpMethod.Post, "v1/apps", """{"name":"session-app"}""", headers)).Status);
        Assert.Equal(HttpStatusCode.Created, (await nobody.SendAsync(HttpMethod.Post, "v1/apps", """{"name":"session-app"}""", session, origin)).Status);
        Assert.Equal(HttpStatusCode.NoContent,
            (await nobody.SendAsync(HttpMethod.Delete, "v1/session", null, session, ("Sec-Fetch-Site", "same-origin"))).Status);
        Assert.Equal(HttpStatusCode.Unauthorized, (await nobody.SendAsync(HttpMethod.Get, "v1/account", null, session)).Status);
        await RemoveAsync("none.test", "session-app");
    }

    private async Task<int> CodeAsync(Member user, params string[] arguments) => (await AppoxyAsync(user.Token, [], arguments)).ExitCode;

    private Task<Ran> AcceptAsync(string invitation, string password) =>
        AppoxyAsync("", [("APPOXY_TOKEN", null)], $"{invitation}\n{password}\n", "users", "accept", $"http://127.0.0.1:{install.ConsolePort}/");

    private Task<Ran> AppoxyAsync(string token, (string Name, string? Value)[] environment, params string[] arguments) =>
        AppoxyAsync(token, environment, arguments.Length > 0 && arguments[0].EndsWith('\n') ? arguments[0] : "",
            arguments.Length > 0 && arguments[0].EndsWith('\n') ? arguments[1..] : arguments);

    /// <summary>The CLI, with another token and environment than the tests' own.</summary>
    private async Task<Ran> AppoxyAsync(string token, (string Name, string? Value)[] environment, string input, string[] arguments)
    {
        var ran = await Cli.Wrap($"{install.Prefix}/bin/appoxy").WithArguments(arguments).WithStandardInputPipe(PipeSource.FromString(input))
            .WithEnvironmentVariables(env =>
            {
                env.Set("APPOXY_URL", $"http://127.0.0.1:{install.ConsolePort}").Set("APPOXY_TOKEN", token);
                foreach (var (name, value) in environment)
                    env.Set(name, value);
            })
            .WithValidation(CommandResultValidation.None).ExecuteBufferedAsync();
        return new Ran(ran.ExitCode, ran.StandardOutput, ran.StandardError);
    }

    private async Task RemoveAsync(string domain, params string[] apps)
    {
        foreach (var app in apps)
            await install.MustAsync("apps", "destroy", app, "--confirm", app);
        await install.SqlAsync($"delete from users where email like '%@{domain}'");
    }
}
