using System.Diagnostics;
using System.Net;

namespace Appoxy.Tests.Acceptance;

[Collection(FirstLane.Name)]
public sealed class DomainTests(Install install) : ShopTests(install)
{
    [Fact]
    public async Task Added_domain_is_served_within_a_second_and_nothing_is_reloaded()
    {
        // Asked for before it exists, so that a remembered "unknown" must be taken back too.
        Assert.Equal(HttpStatusCode.NotFound, (await Install.GetAsync("www.shop.test")).Status);
        var workers = await WorkersAsync();
        await Install.MustAsync("domains", "add", "shop", "www.shop.test");
        var added = Stopwatch.StartNew();
        await Install.EventuallyAsync(async () => (await Install.GetAsync("www.shop.test")).Status == HttpStatusCode.OK, TimeSpan.FromSeconds(1));
        Assert.True(added.Elapsed < TimeSpan.FromSeconds(1));
        Assert.Contains("at www.shop.test", (await Install.GetAsync("WWW.Shop.TEST.")).Body, StringComparison.OrdinalIgnoreCase);
        Assert.Equal(workers, await WorkersAsync());
        Assert.Contains("www.shop.test", await Install.MustAsync("domains", "list", "shop"), StringComparison.Ordinal);
        Assert.Contains("redis", await Install.MustAsync("route", "www.shop.test"), StringComparison.Ordinal);

        await Install.MustAsync("domains", "remove", "shop", "www.shop.test");
        await Install.EventuallyAsync(async () => (await Install.GetAsync("www.shop.test")).Status == HttpStatusCode.NotFound, TimeSpan.FromSeconds(1));
        Assert.Equal(workers, await WorkersAsync());
    }

    [Fact]
    public async Task Wildcard_domain_serves_all_below_it_but_an_exact_one_wins()
    {
        await Install.MustAsync("domains", "add", "shop", "*.wild.test");
        await Install.MustAsync("domains", "add", "hello", "exact.wild.test");
        await Install.EventuallyAsync(async () => (await Install.GetAsync("a.wild.test")).Body.StartsWith("shop", StringComparison.Ordinal), TimeSpan.FromSeconds(1));
        Assert.StartsWith("shop", (await Install.GetAsync("a.b.wild.test")).Body, StringComparison.Ordinal);
        await Install.EventuallyAsync(async () => (await Install.GetAsync("exact.wild.test")).Body.Contains("<html", StringComparison.OrdinalIgnoreCase),
            TimeSpan.FromSeconds(1));
        Assert.Equal(HttpStatusCode.NotFound, (await Install.GetAsync("wild.test")).Status);
    }

    [Fact]
    public async Task Forwarded_headers_of_a_visitor_are_replaced()
    {
        using var http = LocalHttp.For($"http://127.0.0.1:{Install.HttpPort}/", TimeSpan.FromSeconds(10));
        using var request = new HttpRequestMessage(HttpMethod.Get, "headers") { Headers = { Host = Shop.Host } };
        request.Headers.Add("X-Forwarded-For", "6.6.6.6");
        request.Headers.Add("X-Forwarded-Host", "evil.test");
        request.Headers.Add("X-Forwarded-Proto", "https");
        request.Headers.Add("X-Real-IP", "6.6.6.6");
        using var response = await http.SendAsync(request);
        var headers = System.Text.Json.JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement;
        Assert.Equal(Shop.Host, headers.GetProperty("host").GetString());
        Assert.Equal(Shop.Host, headers.GetProperty("x-forwarded-host").GetString());
        Assert.Equal("http", headers.GetProperty("x-forwarded-proto").GetString());
        Assert.Equal("127.0.0.1", headers.GetProperty("x-forwarded-for").GetString());
        Assert.Equal("127.0.0.1", headers.GetProperty("x-real-ip").GetString());
        Assert.NotEmpty(headers.GetProperty("x-request-id").GetString()!);
    }

    /// <summary>The worker processes of both nginxes.</summary>
    private async Task<string> WorkersAsync()
    {
        var workers = "";
        foreach (var service in new[] { "global-nginx", "local-nginx" })
            workers += (await Install.RunAsync("pgrep", ["-P", $"{Install.ServicePid(service)}"])).Output;
        Assert.NotEmpty(workers);
        return workers;
    }
}
