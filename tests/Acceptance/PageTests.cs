using System.Data;
using System.Text.Json;
using Appoxy.Routerd.Audits;
using Appoxy.Routerd.Users;
using Dapper;
using Npgsql;

namespace Appoxy.Tests.Acceptance;

/// <summary>Lists that grow without bound.</summary>
[Collection(SecondLane.Name)]
public sealed class PageTests(Install install)
{
    [Theory]
    [InlineData("v1/users", "email", 7)]
    [InlineData("v1/teams", "name", 7)]
    [InlineData("v1/tokens", "id", 7)]
    [InlineData("v1/audit?user=page-0@pages.test", "id", 9)]
    public async Task A_list_comes_in_pages_that_together_are_the_whole(string list, string key, int least)
    {
        var ann = await Member.MakeAsync(install, "page-0@pages.test");
        for (var i = 1; i < 7; i++)
            await Member.MakeAsync(install, $"page-{i}@pages.test");
        for (var i = 0; i < 7; i++)
        {
            // 5 teams are what a quota of a member allows.
            await (i < 5 ? ann : new Member(install, "", install.Token)).PostAsync("v1/teams", $$"""{"name":"page-team-{{i}}"}""");
            await ann.TokenAsync($$"""{"name":"page {{i}}","scope":"read"}""");
        }
        using var api = install.Api();
        if (list == "v1/tokens")
            api.DefaultRequestHeaders.Authorization = new("Bearer", ann.Token);
        var (seen, next) = (new List<string>(), (string?)null);
        do
        {
            var page = JsonDocument.Parse(await api.GetStringAsync($"{list}{(list.Contains('?', StringComparison.Ordinal) ? '&' : '?')}limit=3"
                + (next is null ? "" : "&after=" + Uri.EscapeDataString(next)))).RootElement;
            Assert.InRange(page.GetProperty("items").GetArrayLength(), 0, 3);
            seen.AddRange(page.GetProperty("items").EnumerateArray().Select(i => i.GetProperty(key).ToString()));
            next = page.TryGetProperty("next", out var cursor) ? cursor.GetString() : null;
        }
        while (next is not null);
        Assert.True(seen.Count >= least, string.Join(' ', seen));
        Assert.Equal(seen.Count, seen.Distinct().Count());
        var whole = JsonDocument.Parse(await api.GetStringAsync($"{list}{(list.Contains('?', StringComparison.Ordinal) ? '&' : '?')}limit=500")).RootElement;
        Assert.Equal(whole.GetProperty("items").EnumerateArray().Select(i => i.GetProperty(key).ToString()), seen);
        await install.SqlAsync("delete from teams where name like 'page-team-%'; delete from users where email like 'page-%@pages.test'");
    }

    [Fact]
    public async Task The_CLI_shows_all_pages_and_of_the_audit_log_as_many_entries_as_asked_for()
    {
        await install.SqlAsync("insert into users (email, password_hash, role) select 'many-' || n || '@pages.test', '', 'member' from generate_series(1, 600) n");
        Assert.Equal(600, (await install.MustAsync("users", "list")).Split('\n').Count(l => l.StartsWith("many-", StringComparison.Ordinal)));
        await install.SqlAsync("""
            delete from users where email like 'many-%@pages.test';
            insert into audit (user_email, operation, status) select 'many@pages.test', 'sign in', 200 from generate_series(1, 700)
            """);
        foreach (var (limit, shown) in new[] { ("3", 3), ("650", 650), ("1000", 700) })
            Assert.Equal(shown, JsonDocument.Parse(await install.MustAsync("audit", "--user", "many@pages.test", "--limit", limit, "--json")).RootElement.GetArrayLength());
    }

    [Fact]
    public async Task A_page_is_read_by_an_index_however_long_the_list_is()
    {
        var settings = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(install.Prefix, "etc/appoxy/routerd.json"))).RootElement;
        await using var connection = new NpgsqlConnection(settings.GetProperty("postgres").GetString());
        await connection.OpenAsync();
        // Nothing of it stays. What the audit log has already is older, as its ids are; what other tests add meanwhile is not seen.
        await using var transaction = await connection.BeginTransactionAsync(IsolationLevel.RepeatableRead);
        await connection.ExecuteAsync("""
            insert into users (email, password_hash, role) select 'u' || n || '@plan.test', 'x', 'member' from generate_series(1, 5000) n;
            insert into tokens (user_id, name, hash) select id, 'plan', sha256(convert_to(email || n, 'UTF8')) from users, generate_series(1, 4) n
              where email like '%@plan.test';
            insert into teams (name) select 'plan-' || n from generate_series(1, 5000) n;
            insert into apps (uid, name, owner_id) select 'p' || n, 'plan-' || n, (select min(id) from users where email like '%@plan.test') from generate_series(1, 100) n;
            insert into audit (at, user_id, user_email, operation, target, app_uid)
              select now() + n * interval '1 minute', u.id, u.email, 'PATCH /v1/apps/{app}', '/v1/apps/plan-' || n % 100, 'p' || n % 100
              from generate_series(1, 20000) n join users u on u.email = 'u' || n % 5000 || '@plan.test' order by n;
            analyze users; analyze tokens; analyze teams; analyze audit; analyze apps;
            """);
        var values = new
        {
            Id = await connection.QuerySingleAsync<long>("select min(id) from users where email like '%@plan.test'"), after = "", Rows = 101,
            before = long.MaxValue, app = "plan-7", uid = "p7", user = "u7@plan.test", since = DateTime.UtcNow.AddMinutes(20000 - 60),
        };
        var queries = new List<(string Name, string Sql)>
        {
            ("users", UserEndpoints.Listed), ("tokens", TokenEndpoints.Listed.Replace("@after", "0", StringComparison.Ordinal)),
            ("all teams", Teams.Listed(all: true)), ("own teams", Teams.Listed(all: false)),
        };
        foreach (var (admin, ofApp, ofUser, since) in from a in Both from b in Both from c in Both from d in Both select (a, b, c, d))
            queries.Add(($"audit admin={admin} app={ofApp} user={ofUser} since={since}", AuditEndpoints.Listed(admin, ofApp, ofUser, since)));
        var scans = new List<string>();
        foreach (var (name, sql) in queries)
        {
            var plan = string.Join('\n', await connection.QueryAsync<string>("explain (analyze, timing off) " + sql, values));
            if (plan.Contains("Seq Scan on audit", StringComparison.Ordinal) || plan.Contains("Seq Scan on users", StringComparison.Ordinal)
                || plan.Contains("Seq Scan on tokens", StringComparison.Ordinal) || plan.Contains("Seq Scan on teams", StringComparison.Ordinal)
                || System.Text.RegularExpressions.Regex.Matches(plan, @"Rows Removed by Filter: (\d+)").Any(m => int.Parse(m.Groups[1].Value) > 2000))
                scans.Add($"{name}\n{plan}");
        }
        Assert.True(scans.Count == 0, string.Join("\n\n", scans));
    }

    private static readonly bool[] Both = [false, true];
}
