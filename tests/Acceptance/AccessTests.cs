using System.Net;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;
using CliWrap;
using CliWrap.Buffered;

namespace Appoxy.Tests.Acceptance;

/// <summary>
/// Every endpoint that routerd has, as it lists them itself, asked by those who may not: it never succeeds, changes nothing, and answers
/// for what is there as for what is not. A new endpoint is among them by itself; one with a parameter that is not known here fails the test.
/// </summary>
[Collection(ThirdLane.Name)]
public sealed partial class AccessTests(Install install)
{
    private const string App = "anns-app";
    private const string NoApp = "nope-app";
    private const string Team = "anns-team";
    private const string Ann = "ann@access.test";

    /// <summary>What is open to all, and why that is right.</summary>
    private static readonly Dictionary<string, string> Open = new()
    {
        ["GET /"] = "the console's first page", ["GET /healthz"] = "tells that it runs", ["GET /readyz"] = "tells that it works",
        ["GET /openapi/{documentName}.json"] = "describes the API", ["POST /git/pushes"] = "git's hook, by a secret of each push",
        ["POST /v1/hooks/{app}/{id}"] = "git hosts, by a signature", ["POST /v1/invitations/accept"] = "by an invitation",
        ["POST /v1/session"] = "by a password", ["POST /v1/tokens"] = "by a password, or a token that it looks at itself",
        ["GET /v1/oidc/sign-in"] = "sends to the sign-in provider", ["GET /cluster/ca"] = "at the cluster's own port alone, as all below", ["POST /cluster/join"] = "by a join token",
        ["POST /cluster/renew"] = "by a certificate", ["POST /cluster/heartbeat"] = "by a certificate", ["GET /cluster/stores/{store}"] = "by a certificate",
    };

    private sealed record Endpoint(string Method, string Path, string Scope, string Role)
    {
        public bool HasParameters => Path.Contains('{', StringComparison.Ordinal);

        public override string ToString() => $"{Method} {Path}";
    }

    private sealed record Answered(int Status, string Text);

    [Fact]
    public async Task Nobody_gets_through_who_may_not_and_nobody_learns_what_is_there()
    {
        var endpoints = await EndpointsAsync();
        Assert.True(endpoints.Count > 70, $"{endpoints.Count} endpoints");
        Assert.Empty(endpoints.Where(e => e.Scope == "all").Select(e => e.ToString()).Except(Open.Keys));
        var described = (await ApiOperation.ReadAsync(install)).Select(o => o.ToString()).ToHashSet();
        Assert.Empty(described.Except(endpoints.Select(e => Constraint().Replace(e.ToString(), "}"))));
        var closed = endpoints.Where(e => e.Scope != "all").ToList();
        await using var callers = new Users(install);
        await callers.MakeAsync();
        var before = await callers.StateAsync();
        var (faults, asked) = (new List<string>(), 0);

        // No token that holds: 401, whatever is asked for.
        foreach (var (caller, token) in new[] { ("nobody", null), ("an unknown token", "apx_" + new string('x', 40)), ("an expired token", callers.Expired),
            ("a revoked token", callers.Revoked), ("a disabled user", callers.Disabled), ("a session's token in a header", callers.InHeader) })
        {
            foreach (var endpoint in closed)
                await AlikeAsync(endpoint, caller, token, 401);
        }
        // Another user, with all the rights of their own.
        foreach (var endpoint in closed)
        {
            if (endpoint.HasParameters && endpoint.Scope != "admin")
                await AlikeAsync(endpoint, "another user", callers.Other, 404);
            else if (endpoint.Scope == "admin")
                await AlikeAsync(endpoint, "another user", callers.Other, 403);
            else
                await KeepsToOwnAsync(endpoint, "another user", callers.Other);
        }
        // The owner, and for what is an admin's an admin, with the scope below the one it takes.
        foreach (var endpoint in closed.Where(e => e.Scope != "read"))
        {
            await AlikeAsync(endpoint, "too small a scope", endpoint.Scope switch
            {
                "deploy" => callers.Read, "write" => callers.Deploy, _ => callers.AdminsWrite,
            }, 403);
        }
        // The owner, with a token for another app.
        foreach (var endpoint in closed.Where(e => e.Scope != "admin"))
        {
            if (endpoint.Role != "-")
                await AlikeAsync(endpoint, "a token for another app", callers.Bound, 404);
            else
                await KnowsOneAppAsync(endpoint);
        }
        // A collaborator whose role in the app is too small; that it is there is no secret to this one.
        foreach (var endpoint in closed.Where(e => e.Role is not ("-" or "view")))
        {
            var answer = await AskAsync(endpoint, callers.Viewer, existing: true);
            if (answer.Status != 403)
                faults.Add($"{endpoint}: one who may view gets {answer}");
        }
        // A webhook's address tells nothing of apps either.
        var hook = new Endpoint("POST", "/v1/hooks/{app}/nosuchhook", "all", "-");
        if ((await AskAsync(hook, null, existing: true)) != (await AskAsync(hook, null, existing: false)))
            faults.Add($"{hook} tells which apps there are");

        Assert.True(faults.Count == 0, string.Join('\n', faults));
        Assert.Equal(before, await callers.StateAsync());
        // What was tried is known.
        Assert.NotEqual("0", await install.SqlAsync("select count(*) from audit where user_email = 'mallory@access.test' and status in (403, 404)"));

        async Task AlikeAsync(Endpoint endpoint, string caller, string? token, int status)
        {
            var (there, absent) = (await AskAsync(endpoint, token, existing: true), await AskAsync(endpoint, token, existing: false));
            if (there.Status != status || there != absent)
                faults.Add($"{endpoint}: {caller} gets {there}, and {absent} for what is not there");
        }

        async Task KeepsToOwnAsync(Endpoint endpoint, string caller, string token)
        {
            var answer = await AskAsync(endpoint, token, existing: true);
            // There stands what this one tried itself.
            var tried = endpoint.Path == "/v1/audit";
            if (answer.Status >= 500 || (!tried && (answer.Text.Contains(App, StringComparison.Ordinal)
                || answer.Text.Contains(Team, StringComparison.Ordinal) || answer.Text.Contains(Ann, StringComparison.Ordinal))))
                faults.Add($"{endpoint}: {caller} gets {answer}");
        }

        async Task KnowsOneAppAsync(Endpoint endpoint)
        {
            var answer = await AskAsync(endpoint, callers.Bound, existing: true);
            var shows = endpoint.Method == "GET" && !answer.Text.Contains(App, StringComparison.Ordinal);
            if (answer.Status is not (403 or 404) && !shows && endpoint.ToString() != "DELETE /v1/session")
                faults.Add($"{endpoint}: a token for another app gets {answer}");
        }

        async Task<Answered> AskAsync(Endpoint endpoint, string? token, bool existing)
        {
            var path = Fill(endpoint.Path, existing, callers);
            using var http = LocalHttp.For($"http://127.0.0.1:{install.ConsolePort}/", TimeSpan.FromSeconds(30));
            using var request = new HttpRequestMessage(new HttpMethod(endpoint.Method), path);
            if (token is not null)
                request.Headers.Authorization = path.StartsWith("/git/", StringComparison.Ordinal)
                    ? new("Basic", Convert.ToBase64String(Encoding.UTF8.GetBytes("me:" + token))) : new("Bearer", token);
            // From ever other addresses, as one that has no token is slowed.
            request.Headers.Add("X-Real-IP", $"198.18.{asked++ / 50 % 256}.1");
            if (endpoint.Method is not ("GET" or "DELETE"))
                request.Content = new StringContent("{}", Encoding.UTF8, "application/json");
            using var response = await http.SendAsync(request);
            var text = await response.Content.ReadAsStringAsync();
            foreach (var (absent, there) in Absent(callers))
                text = text.Replace(absent, there, StringComparison.Ordinal);
            text = RequestIds().Replace(text, "");
            // As they were sent, but for the clock and each request's own id.
            var headers = response.Headers.Concat(response.Content.Headers).Where(h => h.Key is not ("Date" or "Content-Length") && !h.Key.Equals("X-Request-Id", StringComparison.OrdinalIgnoreCase))
                .Select(h => $"{h.Key}: {string.Join(',', h.Value)}").Order(StringComparer.Ordinal);
            return new Answered((int)response.StatusCode, $"{string.Join('\n', headers)}\n{text}");
        }
    }

    /// <summary>What stands for something that is not there, and for what of Ann's.</summary>
    private static IEnumerable<(string Absent, string There)> Absent(Users callers) =>
    [
        (NoApp, App), ("nope-team", Team), ("nobody@access.test", Ann), ("999999999", callers.TokenId), ("ds99", "ds1"), ("nope.conf.sbn", "global.conf.sbn"),
    ];

    private static string Fill(string path, bool existing, Users callers)
    {
        var filled = Parameter().Replace(path, match => (match.Groups[1].Value, existing) switch
        {
            ("app", true) => App,
            ("app", false) => NoApp,
            ("team", true) => Team,
            ("team", false) => "nope-team",
            ("email", true) => Ann,
            ("email", false) => "nobody@access.test",
            ("number", _) => "1",
            ("volume", _) => "data",
            ("host", _) when path.Contains("git-auth", StringComparison.Ordinal) => "git.access.test",
            ("host", _) when path.Contains("domains", StringComparison.Ordinal) => "www.access.test",
            ("host", true) => $"{App}.localhost",
            ("host", false) => $"{NoApp}.localhost",
            ("id", _) when path.Contains("webhooks", StringComparison.Ordinal) => callers.WebhookId,
            ("id", true) when path.StartsWith("/v1/tokens/", StringComparison.Ordinal) => callers.TokenId,
            ("id", false) when path.StartsWith("/v1/tokens/", StringComparison.Ordinal) => "999999999",
            ("name", true) when path.StartsWith("/v1/templates", StringComparison.Ordinal) => "global.conf.sbn",
            ("name", false) when path.StartsWith("/v1/templates", StringComparison.Ordinal) => "nope.conf.sbn",
            // What admins alone see at all needs nothing that is there.
            ("id", _) when path.StartsWith("/v1/secrets", StringComparison.Ordinal) => "nokey",
            (_, true) when path.StartsWith("/v1/servers", StringComparison.Ordinal) => "ds1",
            (_, false) when path.StartsWith("/v1/servers", StringComparison.Ordinal) => "ds99",
            var (name, _) => throw new Xunit.Sdk.XunitException($"{path}: say here what {{{name}}} is to be filled with"),
        });
        return filled.StartsWith("/git/", StringComparison.Ordinal) && filled.EndsWith("/info/refs", StringComparison.Ordinal)
            ? filled + "?service=git-upload-pack" : filled;
    }

    private async Task<List<Endpoint>> EndpointsAsync()
    {
        var ran = await install.Command($"{install.Prefix}/usr/lib/appoxy/routerd/routerd", "endpoints", "--config", $"{install.Prefix}/etc/appoxy/routerd.json")
            .WithEnvironmentVariables(e => e.Set("DOTNET_ROOT", Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "../../.."))))
            .WithValidation(CommandResultValidation.None).ExecuteBufferedAsync();
        Assert.True(ran.ExitCode == 0, ran.StandardError);
        return [.. ran.StandardOutput.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => l.Split(' ')).Select(l => new Endpoint(l[0], l[1], l[2], l[3]))];
    }

    /// <summary>Ann with an app, a team and tokens; others who have no right to them.</summary>
    private sealed class Users(Install install) : IAsyncDisposable
    {
        public string Other { get; private set; } = "";
        public string Expired { get; private set; } = "";
        public string Revoked { get; private set; } = "";
        public string Disabled { get; private set; } = "";
        public string InHeader { get; private set; } = "";
        public string Read { get; private set; } = "";
        public string Deploy { get; private set; } = "";
        public string Bound { get; private set; } = "";
        public string Viewer { get; private set; } = "";
        public string AdminsWrite { get; private set; } = "";
        public string WebhookId { get; private set; } = "";
        public string TokenId { get; private set; } = "";

        public async Task MakeAsync()
        {
            var ann = await Member.MakeAsync(install, Ann);
            await ann.PostAsync("v1/apps", $$"""{"name":"{{App}}"}""");
            await ann.PostAsync("v1/apps", """{"name":"anns-other"}""");
            await ann.PostAsync("v1/teams", $$"""{"name":"{{Team}}"}""");
            await ann.PostAsync($"v1/apps/{App}/domains", """{"hostname":"www.access.test"}""");
            await ann.PostAsync($"v1/apps/{App}/volumes", """{"name":"data"}""");
            await ann.SendAsync(HttpMethod.Put, $"v1/apps/{App}/git-auth/git.access.test", """{"username":"ann","password":"planted"}""");
            WebhookId = (await ann.PostAsync($"v1/apps/{App}/webhooks", """{"url":"https://git.access.test/a"}""")).GetProperty("id").GetString()!;
            await install.SqlAsync($$"""
                insert into deployments (app_uid, number, source, builder, by_admin, state, finished_at)
                select uid, 1, '{"image":"a"}', 'auto', false, 'failed', now() from apps where name = '{{App}}'
                """);
            (Read, Deploy) = (await ann.TokenAsync("""{"name":"r","scope":"read"}"""), await ann.TokenAsync("""{"name":"d","scope":"deploy"}"""));
            Bound = await ann.TokenAsync("""{"name":"b","scope":"write","app":"anns-other"}""");
            (Expired, Revoked) = (await ann.TokenAsync("""{"name":"e","scope":"write"}"""), await ann.TokenAsync("""{"name":"gone","scope":"write"}"""));
            await install.SqlAsync($"update tokens set expires_at = now() - interval '1 second' where name = 'e'");
            TokenId = await install.SqlAsync("select id from tokens where name = 'd' order by id desc limit 1");
            await ann.SendAsync(HttpMethod.Delete, "v1/tokens/" + await install.SqlAsync("select id from tokens where name = 'gone'"), null);
            Other = (await Member.MakeAsync(install, "mallory@access.test")).Token;
            // Disabled behind the API's back, which would have taken the token as well.
            var disabled = await Member.MakeAsync(install, "dora@access.test");
            var viewer = await Member.MakeAsync(install, "vic@access.test");
            await ann.SendAsync(HttpMethod.Put, $"v1/apps/{App}/collaborators/dora@access.test", """{"role":"manage"}""");
            await ann.SendAsync(HttpMethod.Put, $"v1/apps/{App}/collaborators/vic@access.test", """{"role":"view"}""");
            await install.SqlAsync("update users set disabled_at = now() where email = 'dora@access.test'");
            (Disabled, Viewer) = (disabled.Token, viewer.Token);
            InHeader = (await Member.MakeAsync(install, "sess@access.test")).Token;
            await install.SqlAsync("update tokens set kind = 'session' where user_id = (select id from users where email = 'sess@access.test')");
            AdminsWrite = await new Member(install, "admin@localhost", install.Token).TokenAsync("""{"name":"admins-write","scope":"write"}""");
        }

        /// <summary>All that the API can change; what notes that a token was used is not among it, nor the audit log.</summary>
        public async Task<string> StateAsync()
        {
            string[] tables = ["users", "teams", "team_members", "apps", "collaborators", "domains", "placements", "deployments", "volumes", "webhooks",
                "deploy_keys", "git_passwords", "invitations", "template_versions", "moves"];
            return await install.SqlAsync("select " + string.Join(" || ", tables.Select(t => $"coalesce((select string_agg(t::text, ',' order by t::text) from {t} t), '')"))
                + " || (select string_agg(name, ',' order by name) from servers)"
                + " || (select string_agg(id || name || user_id || coalesce(scope, ''), ',' order by id) from tokens)");
        }

        public async ValueTask DisposeAsync()
        {
            foreach (var app in new[] { App, "anns-other" })
                await install.AppoxyAsync("apps", "destroy", app, "--confirm", app);
            await install.SqlAsync("delete from teams where name = 'anns-team'; delete from users where email like '%@access.test'; delete from tokens where name = 'admins-write'");
        }
    }

    [GeneratedRegex(@"\{(\w+)(?::\w+)?\}")]
    private static partial Regex Parameter();

    [GeneratedRegex("\"requestId\":\"[0-9a-f]{32}\"")]
    internal static partial Regex RequestIds();

    [GeneratedRegex(@":\w+\}")]
    private static partial Regex Constraint();
}
