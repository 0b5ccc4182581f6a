using System.Net;
using System.Text;
using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

/// <summary>What holds for the API as a whole: pages, tags, keys and rates.</summary>
[Collection(ThirdLane.Name)]
public sealed class ApiTests(Install install)
{
    [Fact]
    public async Task Lists_come_in_pages_that_together_are_the_whole_and_the_CLI_shows_them_all()
    {
        using var api = install.Api();
        string[] names = [.. Enumerable.Range(0, 7).Select(n => $"paged-{n}")];
        foreach (var name in names)
            Assert.Equal(HttpStatusCode.Created, (await api.PostAsync("v1/apps", Json($$"""{"name":"{{name}}"}"""))).StatusCode);
        var (seen, after) = (new List<string>(), "paged-");
        for (string? next = after; next is not null;)
        {
            var page = JsonDocument.Parse(await api.GetStringAsync($"v1/apps?limit=3&after={next}")).RootElement;
            Assert.InRange(page.GetProperty("items").GetArrayLength(), 1, 3);
            seen.AddRange(page.GetProperty("items").EnumerateArray().Select(a => a.GetProperty("name").GetString()!));
            next = page.TryGetProperty("next", out var cursor) ? cursor.GetString() : null;
        }
        Assert.Equal(names, seen.Where(n => n.StartsWith("paged-", StringComparison.Ordinal)));
        Assert.Equal(seen.Distinct().Order(StringComparer.Ordinal), seen);
        var listed = JsonDocument.Parse(await install.MustAsync("apps", "list", "--json")).RootElement;
        Assert.Superset(names.ToHashSet(), listed.EnumerateArray().Select(a => a.GetProperty("name").GetString()!).ToHashSet());
        foreach (var name in names)
            await api.DeleteAsync($"v1/apps/{name}");
    }

    [Theory]
    [InlineData("", """{"memory":"200m"}""", """{"memory":"201m"}""")]
    [InlineData("/env", """{"A":"1","BB":"x"}""", """{"A":"2"}""")]
    [InlineData("/scale", """{"web":2}""", """{"web":3}""")]
    [InlineData("/routing", """{"forceHttps":"on"}""", """{"forceHttps":"off"}""")]
    public async Task Change_of_what_another_has_changed_meanwhile_is_refused(string what, string first, string second)
    {
        using var api = install.Api();
        await api.PostAsync("v1/apps", Json("""{"name":"tagged"}"""));
        var path = $"v1/apps/tagged{what}";
        var seen = (await api.GetAsync(path)).Headers.ETag!.ToString();
        var changed = await ChangeAsync(api, path, first, seen);
        Assert.Equal(HttpStatusCode.OK, changed.StatusCode);
        var late = await ChangeAsync(api, path, second, seen);
        Assert.Equal(HttpStatusCode.PreconditionFailed, late.StatusCode);
        Assert.Equal("application/problem+json", late.Content.Headers.ContentType!.MediaType);
        var now = (await api.GetAsync(path)).Headers.ETag!.ToString();
        Assert.Equal(changed.Headers.ETag!.ToString(), now);
        Assert.Equal(HttpStatusCode.OK, (await ChangeAsync(api, path, second, $"\"other\", {now}")).StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await ChangeAsync(api, path, first, "*")).StatusCode);
        await api.DeleteAsync("v1/apps/tagged");
    }

    [Fact]
    public async Task Post_with_a_key_is_done_once_however_often_it_is_sent()
    {
        using var api = install.Api();
        var key = Guid.NewGuid().ToString();
        var answers = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => PostAsync(api, "v1/apps", """{"name":"once-only"}""", key)));
        Assert.All(answers, a => Assert.Equal(HttpStatusCode.Created, a.StatusCode));
        Assert.Single((await Task.WhenAll(answers.Select(a => a.Content.ReadAsStringAsync()))).Distinct());
        Assert.All(answers, a => Assert.Equal("/v1/apps/once-only", a.Headers.Location!.ToString()));
        Assert.Equal(HttpStatusCode.UnprocessableEntity, (await PostAsync(api, "v1/apps", """{"name":"once-more"}""", key)).StatusCode);
        // What failed did nothing, and its key can be used again.
        var other = Guid.NewGuid().ToString();
        Assert.Equal(HttpStatusCode.Conflict, (await PostAsync(api, "v1/apps", """{"name":"once-only"}""", other)).StatusCode);
        await api.DeleteAsync("v1/apps/once-only");
        Assert.Equal(HttpStatusCode.Created, (await PostAsync(api, "v1/apps", """{"name":"once-only"}""", other)).StatusCode);
        await api.DeleteAsync("v1/apps/once-only");
        Assert.Equal(HttpStatusCode.BadRequest, (await PostAsync(api, "v1/apps", """{"name":"once-only"}""", new string('k', 300))).StatusCode);
        // What is shown once is not in the database.
        await api.PostAsync("v1/apps", Json("""{"name":"once-hook"}"""));
        var hook = await PostAsync(api, "v1/apps/once-hook/webhooks", """{"url":"https://git.example.org/a.git"}""", Guid.NewGuid().ToString());
        var secret = JsonDocument.Parse(await hook.Content.ReadAsStringAsync()).RootElement.GetProperty("secret").GetString()!;
        Assert.Equal("0", await install.SqlAsync($"select count(*) from idempotency_keys where position('{secret}'::bytea in answer) > 0"));
        Assert.NotEqual("0", await install.SqlAsync("select count(*) from idempotency_keys where length(answer) > 100"));
        await api.DeleteAsync("v1/apps/once-hook");
    }

    [Fact]
    public async Task Flood_from_an_address_is_slowed_and_who_has_a_token_is_served_meanwhile()
    {
        using var flood = LocalHttp.For($"http://127.0.0.1:{install.ConsolePort}/", TimeSpan.FromSeconds(30));
        using var api = install.Api();
        var statuses = await Task.WhenAll(Enumerable.Range(0, 600).Select(_ => FromAsync(flood, "v1/apps", "203.0.113.7")));
        var slowed = statuses.Where(s => s.StatusCode == HttpStatusCode.TooManyRequests).ToList();
        Assert.NotEmpty(slowed);
        Assert.All(slowed, s => Assert.InRange(s.Headers.RetryAfter!.Delta!.Value.TotalSeconds, 1, 60));
        Assert.Equal("application/problem+json", slowed[0].Content.Headers.ContentType!.MediaType);
        Assert.Equal(HttpStatusCode.OK, (await api.GetAsync("v1/apps")).StatusCode);
        Assert.Equal(HttpStatusCode.Unauthorized, (await FromAsync(flood, "v1/apps", "203.0.113.8")).StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await FromAsync(flood, "healthz", "203.0.113.7")).StatusCode);
    }

    /// <summary>As the global nginx, which stands on this machine, passes it on.</summary>
    private static Task<HttpResponseMessage> FromAsync(HttpClient http, string path, string address)
    {
        var request = new HttpRequestMessage(HttpMethod.Get, path);
        request.Headers.Add("X-Real-IP", address);
        return http.SendAsync(request);
    }

    private static Task<HttpResponseMessage> ChangeAsync(HttpClient api, string path, string body, string tag)
    {
        var request = new HttpRequestMessage(HttpMethod.Patch, path) { Content = Json(body) };
        request.Headers.TryAddWithoutValidation("If-Match", tag);
        return api.SendAsync(request);
    }

    private static Task<HttpResponseMessage> PostAsync(HttpClient api, string path, string body, string key)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = Json(body) };
        request.Headers.Add("Idempotency-Key", key);
        return api.SendAsync(request);
    }

    private static StringContent Json(string body) => new(body, Encoding.UTF8, "application/json");
}
