using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

[Collection(FirstLane.Name)]
public sealed class BadInputTests(Install install) : ShopTests(install)
{
    [Theory]
    [InlineData("POST", "v1/apps", """{"name":"Bad Name"}""", 400)]
    [InlineData("POST", "v1/apps", """{"name":"x"}""", 400)]
    [InlineData("POST", "v1/apps", """{"name":"shop; drop"}""", 400)]
    [InlineData("POST", "v1/apps", """{"name":"console"}""", 400)]
    [InlineData("POST", "v1/apps", """{"name":"shop"}""", 409)]
    [InlineData("POST", "v1/apps", """{"nome":"okay"}""", 400)]
    [InlineData("POST", "v1/apps", """{"name":5}""", 400)]
    [InlineData("POST", "v1/apps", "{", 400)]
    [InlineData("POST", "v1/apps", "", 400)]
    [InlineData("POST", "v1/apps", """{"name":"okay","settings":{"memory":"lots"}}""", 400)]
    [InlineData("GET", "v1/apps/nope", null, 404)]
    [InlineData("GET", "v1/apps/Bad%20Name", null, 404)]
    [InlineData("GET", "v1/apps/..%2Fusers", null, 404)]
    [InlineData("DELETE", "v1/apps/nope", null, 404)]
    [InlineData("PATCH", "v1/apps/shop", """{"snoozeAfter":"soon"}""", 400)]
    [InlineData("PATCH", "v1/apps/shop", """{"startTimeout":"99d"}""", 400)]
    [InlineData("PATCH", "v1/apps/shop", """{"health":"no-slash"}""", 400)]
    [InlineData("PATCH", "v1/apps/shop", """{"cpus":"-1"}""", 400)]
    [InlineData("PATCH", "v1/apps/shop", """{"port":"70000"}""", 400)]
    [InlineData("PATCH", "v1/apps/shop/env", """{"1BAD":"x"}""", 400)]
    [InlineData("PATCH", "v1/apps/shop/env", """{"PORT":"80"}""", 400)]
    [InlineData("PATCH", "v1/apps/shop/env", """["A"]""", 400)]
    [InlineData("POST", "v1/apps/shop/deployments", """{}""", 400)]
    [InlineData("POST", "v1/apps/shop/deployments", """{"source":{}}""", 400)]
    [InlineData("POST", "v1/apps/shop/deployments", """{"source":{"git":{"url":"ext::sh -c id","ref":"main"}}}""", 400)]
    [InlineData("POST", "v1/apps/shop/deployments", """{"source":{"git":{"url":"--upload-pack=id","ref":"main"}}}""", 400)]
    [InlineData("POST", "v1/apps/shop/deployments", """{"source":{"git":{"url":"https://x.test/a","ref":"--force"}}}""", 400)]
    [InlineData("POST", "v1/apps/shop/deployments", """{"source":{"git":{"url":"https://x.test/a","ref":"a b"}}}""", 400)]
    [InlineData("POST", "v1/apps/shop/deployments", """{"source":{"git":{"url":"https://x.test/a"}},"builder":"make"}""", 400)]
    [InlineData("POST", "v1/apps/shop/deployments", """{"source":{"image":"a b"}}""", 400)]
    [InlineData("POST", "v1/apps/shop/deployments", """{"source":{"upload":"../x"}}""", 400)]
    [InlineData("POST", "v1/apps/shop/deployments", """{"source":{"upload":"a","image":"b"}}""", 400)]
    [InlineData("PATCH", "v1/apps/shop", """{"buildpacks":"a,--b"}""", 400)]
    [InlineData("POST", "v1/apps/shop/rollback", """{"deployment":"x"}""", 400)]
    [InlineData("POST", "v1/apps/shop/rollback", """{"deployment":99999}""", 409)]
    [InlineData("POST", "v1/apps/nope/rollback", "", 404)]
    [InlineData("POST", "v1/apps/nope/uploads", "", 404)]
    [InlineData("POST", "v1/apps/nope/deployments", """{"source":{"image":"a"}}""", 404)]
    [InlineData("GET", "v1/apps/shop/deployments/99999", null, 404)]
    [InlineData("GET", "v1/apps/shop/deployments/abc", null, 400)]
    [InlineData("POST", "v1/apps/shop/deployments/1/cancel", "", 409)]
    [InlineData("POST", "v1/apps/shop/domains", """{"hostname":"no good"}""", 400)]
    [InlineData("POST", "v1/apps/shop/domains", """{"hostname":"a.test; return 200"}""", 400)]
    [InlineData("POST", "v1/apps/shop/domains", """{"hostname":"10.0.0.1"}""", 400)]
    [InlineData("POST", "v1/apps/shop/domains", """{"hostname":"hello.localhost"}""", 409)]
    [InlineData("POST", "v1/apps/shop/domains", """{"hostname":"console.localhost"}""", 403)]
    [InlineData("DELETE", "v1/apps/shop/domains/not-there.test", null, 404)]
    [InlineData("POST", "v1/apps/nope/snooze", "", 404)]
    [InlineData("GET", "v1/apps/shop/logs?tail=-1", null, 400)]
    [InlineData("GET", "v1/apps/shop/logs?since=yesterday", null, 400)]
    [InlineData("GET", "v1/apps/shop/logs?since=2026-02-30T00:00:00Z", null, 400)]
    [InlineData("POST", "v1/apps/shop/webhooks", """{"url":"ext::sh -c id"}""", 400)]
    [InlineData("POST", "v1/apps/shop/webhooks", """{"url":"https://x.test/a","branch":"--force"}""", 400)]
    [InlineData("DELETE", "v1/apps/shop/webhooks/nope", null, 404)]
    [InlineData("PUT", "v1/apps/shop/git-auth/a%20b", """{"username":"x","password":"y"}""", 400)]
    [InlineData("PUT", "v1/apps/shop/git-auth/x.test", """{"username":"x","password":"a\nb"}""", 400)]
    [InlineData("GET", "v1/apps/shop/deploy-key", null, 404)]
    [InlineData("PATCH", "v1/apps/shop", """{"branch":"a..b"}""", 400)]
    [InlineData("GET", "v1/servers/nope", null, 404)]
    [InlineData("GET", "v1/routes/not%20a%20host", null, 400)]
    [InlineData("GET", "v1/nothing", null, 404)]
    [InlineData("PUT", "v1/apps", "{}", 405)]
    [InlineData("POST", "v1/tokens", """{"email":"admin@localhost","password":"wrong"}""", 401)]
    public async Task Api_refuses_bad_input_with_a_problem_and_changes_nothing(string method, string path, string? body, int status)
    {
        var before = await EverythingAsync();
        using var api = Install.Api();
        using var request = new HttpRequestMessage(new HttpMethod(method), path);
        if (body is not null)
            request.Content = new StringContent(body, Encoding.UTF8, "application/json");
        using var response = await api.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        Assert.True(status == (int)response.StatusCode, $"{(int)response.StatusCode} {text}");
        Assert.Equal("application/problem+json", response.Content.Headers.ContentType?.MediaType);
        var problem = JsonDocument.Parse(text).RootElement;
        Assert.Equal(status, problem.GetProperty("status").GetInt32());
        Assert.Equal(before, await EverythingAsync());
    }

    [Theory]
    [InlineData(null)]
    [InlineData("apx_wrong")]
    public async Task Api_refuses_callers_without_a_valid_token(string? token)
    {
        using var api = LocalHttp.For($"http://127.0.0.1:{Install.ConsolePort}/", TimeSpan.FromSeconds(10));
        if (token is not null)
            api.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);
        foreach (var path in new[] { "v1/apps", "v1/apps/shop", "v1/droids", "v1/servers", "v1/templates", "v1/routes/shop.localhost", "v1/apps/shop/env", "v1/apps/shop/logs" })
        {
            using var response = await api.GetAsync(path);
            Assert.Equal(401, (int)response.StatusCode);
            Assert.Equal("application/problem+json", response.Content.Headers.ContentType?.MediaType);
        }
    }

    [Theory]
    [InlineData(2)]
    [InlineData(2, "no-such-command")]
    [InlineData(2, "apps", "create")]
    [InlineData(2, "apps", "create", "Bad Name")]
    [InlineData(2, "apps", "create", "console")]
    [InlineData(1, "apps", "create", "shop")]
    [InlineData(3, "apps", "info", "nope")]
    [InlineData(2, "apps", "destroy", "shop")]
    [InlineData(2, "apps", "destroy", "shop", "--confirm", "hello")]
    [InlineData(3, "apps", "destroy", "nope", "--confirm", "nope")]
    [InlineData(2, "deploy", "shop")]
    [InlineData(2, "deploy", "shop", "--git", "ext::sh -c id")]
    [InlineData(2, "deploy", "shop", "--git", "https://x.test/a", "--image", "b")]
    [InlineData(3, "deploy", "nope", "--image", "busybox")]
    [InlineData(2, "deploy", "shop", ".", "--image", "busybox")]
    [InlineData(2, "deploy", "shop", "/nowhere")]
    [InlineData(2, "deploy", "shop", "--git", "https://x.test/a", "--no-gitignore")]
    [InlineData(2, "rollback", "shop", "zero")]
    [InlineData(1, "rollback", "shop", "99999")]
    [InlineData(3, "rollback", "nope")]
    [InlineData(2, "settings", "shop", "buildpacks=--x")]
    [InlineData(3, "ps", "nope")]
    [InlineData(3, "logs", "nope")]
    [InlineData(2, "logs", "shop", "--tail", "some")]
    [InlineData(3, "snooze", "nope")]
    [InlineData(3, "wake", "nope")]
    [InlineData(2, "settings", "shop", "colour=blue")]
    [InlineData(2, "settings", "shop", "memory=lots")]
    [InlineData(2, "settings", "shop", "snooze-after")]
    [InlineData(2, "domains", "add", "shop", "no good")]
    [InlineData(1, "domains", "add", "shop", "hello.localhost")]
    [InlineData(3, "domains", "remove", "shop", "not-there.test")]
    [InlineData(2, "env", "set", "shop", "1BAD=x")]
    [InlineData(2, "route", "not a host")]
    public async Task Cli_refuses_bad_input_with_one_clear_line(int exitCode, params string[] arguments)
    {
        var before = await EverythingAsync();
        var ran = await Install.AppoxyAsync(arguments);
        Assert.True(exitCode == ran.ExitCode, ran.ToString());
        var lines = ran.Error.Trim().Split('\n');
        Assert.True(lines is [{ Length: > 10 }] or [{ Length: > 10 }, ['t', 'r', 'y', ..]], ran.Error);
        Assert.DoesNotContain("   at ", ran.Error, StringComparison.Ordinal);
        Assert.Equal(before, await EverythingAsync());
    }

    [Fact]
    public async Task Cli_says_when_it_may_not_and_when_nobody_answers()
    {
        var denied = await RunWithAsync("APPOXY_TOKEN", "apx_wrong");
        Assert.Equal(4, denied.ExitCode);
        var away = await RunWithAsync("APPOXY_URL", $"http://127.0.0.1:{Install.FreePort()}");
        Assert.Equal(1, away.ExitCode);
        Assert.Single(away.Error.Trim().Split('\n'));

        Task<Ran> RunWithAsync(string name, string value) =>
            Install.RunAsync("env", [$"APPOXY_URL=http://127.0.0.1:{Install.ConsolePort}", $"APPOXY_TOKEN={Install.Token}", $"{name}={value}",
                Path.Combine(Install.Prefix, "bin/appoxy"), "apps", "list"]);
    }

    /// <summary>All that bad input could have changed, as the API tells it.</summary>
    private async Task<string> EverythingAsync()
    {
        using var api = Install.Api();
        var text = new StringBuilder();
        foreach (var path in new[] { "v1/apps", "v1/apps/shop/domains", "v1/apps/shop/env", "v1/apps/shop/deployments" })
            text.AppendLine(await api.GetStringAsync(path));
        return text.ToString();
    }
}
