using System.Diagnostics;
using System.Net;

namespace Appoxy.Tests.Acceptance;

[Collection(FirstLane.Name)]
public sealed class HostTests(Install install) : ShopTests(install)
{
    [Theory]
    [InlineData("nobody.localhost")]
    [InlineData("nobody.example.org")]
    [InlineData("localhost")]
    public async Task Unknown_host_gets_our_404_page(string host)
    {
        var (status, body, _) = await Install.GetAsync(host);
        Assert.Equal(HttpStatusCode.NotFound, status);
        Assert.Contains("There is no such site here", body, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Uid_of_a_server_is_visitable_directly_and_an_unknown_one_gets_404()
    {
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync($"{Shop.Uid}.ds1.localhost")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await Install.GetAsync("zzzzzzz.ds1.localhost")).Status);
        // The same asked at the local nginx itself.
        using var local = LocalHttp.For($"unix:{Install.Prefix}/run/appoxy/local-nginx.sock", TimeSpan.FromSeconds(10));
        foreach (var (host, expected) in new[] { ($"{Shop.Uid}.ds1.localhost", 200), ("zzzzzzz.ds1.localhost", 404), ("shop.localhost", 404) })
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, "") { Headers = { Host = host } };
            using var response = await local.SendAsync(request);
            Assert.Equal(expected, (int)response.StatusCode);
        }
    }

    [Fact]
    public async Task App_that_never_opens_its_port_gets_503_with_retry_after_and_the_log_says_why()
    {
        var repository = await Install.RepositoryOfAsync("silent", "silent");
        await Install.MustAsync("apps", "create", "silent");
        await Install.MustAsync("settings", "silent", "start-timeout=4s");
        var ran = await Install.AppoxyAsync("deploy", "silent", "--git", repository.Url, "--ref", "main");
        Assert.Equal(1, ran.ExitCode);
        Assert.Contains("did not open port 7000 within 4s", ran.Error, StringComparison.Ordinal);
        Assert.Contains("I never listen", ran.Output, StringComparison.Ordinal);
        await Is503Async("silent.localhost");
        Assert.Contains("did not open port 7000 within 4s", await Install.MustAsync("logs", "silent"), StringComparison.Ordinal);
        Assert.Contains("failed", await Install.MustAsync("ps", "silent"), StringComparison.Ordinal);
        await Install.MustAsync("apps", "destroy", "silent", "--confirm", "silent");
    }

    [Fact]
    public async Task App_that_does_not_open_its_port_when_woken_gets_503_after_its_start_timeout()
    {
        // It listens at its first start, which goes live, and at no later one.
        var repository = await Install.RepositoryOfAsync("once", "once");
        await Install.MustAsync("apps", "create", "once");
        await Install.MustAsync("settings", "once", "start-timeout=4s");
        await Install.MustAsync("deploy", "once", "--git", repository.Url, "--ref", "main");
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync("once.localhost")).Status);
        await Install.MustAsync("snooze", "once");
        var visit = Stopwatch.StartNew();
        await Is503Async("once.localhost");
        Assert.InRange(visit.Elapsed.TotalSeconds, 3.5, 15);
        Assert.Contains("did not open port 7000 within 4s", await Install.MustAsync("logs", "once"), StringComparison.Ordinal);
        Assert.Contains("crashed", await Install.MustAsync("ps", "once"), StringComparison.Ordinal);
        await Install.MustAsync("apps", "destroy", "once", "--confirm", "once");
    }

    [Fact]
    public async Task Stopped_app_stays_stopped_when_visited_and_starts_again_on_command()
    {
        await Install.MustAsync("stop", "shop");
        await Install.EventuallyAsync(async () => (await Install.DroidAsync("shop")).State == DroidStates.Stopped, TimeSpan.FromSeconds(40));
        await Is503Async(Shop.Host);
        await Install.MustAsync("start", "shop");
        await Install.EventuallyAsync(async () => (await Install.GetAsync(Shop.Host)).Status == HttpStatusCode.OK, TimeSpan.FromSeconds(20));
        await Install.MustAsync("restart", "shop");
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
    }

    [Theory]
    [InlineData(404)]
    [InlineData(500)]
    [InlineData(502)]
    [InlineData(503)]
    public async Task Errors_of_the_app_itself_pass_untouched(int code)
    {
        var (status, body, _) = await Install.GetAsync(Shop.Host, $"/status/{code}");
        Assert.Equal(code, (int)status);
        Assert.Equal($"own {code}\n", body);
    }

    [Fact]
    public async Task Crashed_app_comes_back_by_itself()
    {
        Assert.NotEqual(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host, "/crash")).Status);
        await Install.EventuallyAsync(async () => (await Install.GetAsync(Shop.Host)).Status == HttpStatusCode.OK, TimeSpan.FromSeconds(20));
    }

    private async Task Is503Async(string host)
    {
        var (status, body, response) = await Install.GetAsync(host);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, status);
        Assert.NotNull(response.Headers.RetryAfter);
        Assert.Contains("<html", body, StringComparison.OrdinalIgnoreCase);
    }
}
