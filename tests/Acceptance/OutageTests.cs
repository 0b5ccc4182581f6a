using System.Net;

namespace Appoxy.Tests.Acceptance;

[Collection(FirstLane.Name)]
public sealed class OutageTests(Install install) : ShopTests(install)
{
    [Fact]
    public async Task Known_hosts_keep_answering_with_redis_postgres_routerd_and_droidd_stopped_even_over_an_nginx_restart()
    {
        await Install.MustAsync("domains", "add", "shop", "never-visited.test");
        await Task.Delay(TimeSpan.FromSeconds(3)); // the snapshot is written within a second or two
        // Both awake, since nobody can wake them then.
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync("hello.localhost")).Status);
        string[] services = ["routerd", "droidd", "redis", "postgres"];
        try
        {
            await using (var load = new Load(Install, Shop.Host))
            {
                foreach (var service in services)
                    await Install.ServiceAsync(service, "down");
                await Task.Delay(TimeSpan.FromSeconds(3));
                await load.EndAsync(atLeast: 100);
            }
            Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync("hello.localhost")).Status);
            var (status, _, response) = await Install.GetAsync("unheard-of.test");
            Assert.Equal(HttpStatusCode.ServiceUnavailable, status);
            Assert.NotNull(response.Headers.RetryAfter);

            foreach (var nginx in new[] { "global-nginx", "local-nginx" })
            {
                await Install.ServiceAsync(nginx, "down");
                await Install.ServiceAsync(nginx, "up");
            }
            await Install.EventuallyAsync(async () => await StatusOrNullAsync(Shop.Host) == HttpStatusCode.OK, TimeSpan.FromSeconds(10));
            Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync("never-visited.test")).Status);
        }
        finally
        {
            foreach (var service in services.Reverse())
                await Install.ServiceAsync(service, "up");
        }
        using var api = Install.Api();
        await Install.EventuallyAsync(async () =>
        {
            try
            {
                return (await api.GetAsync("readyz")).IsSuccessStatusCode && (await Install.DroidAsync("shop")).Live is not null;
            }
            catch (Exception e) when (e is HttpRequestException or InvalidOperationException)
            {
                return false;
            }
        }, TimeSpan.FromSeconds(30));
        await Install.EventuallyAsync(async () => (await Install.GetAsync("unheard-of.test")).Status == HttpStatusCode.NotFound, TimeSpan.FromSeconds(10));
    }

    [Fact]
    public async Task Emptied_redis_is_filled_again_and_no_host_is_lost_meanwhile()
    {
        var redis = new Uri(Install.Installed("redis"));
        await using var load = new Load(Install, Shop.Host);
        for (var round = 0; round < 3; round++)
        {
            var ran = await Install.RunAsync("redis-cli", ["-h", redis.Host, "-p", $"{redis.Port}", "flushall"]);
            Assert.Equal("OK", ran.Output.Trim());
            await Task.Delay(TimeSpan.FromSeconds(1));
        }
        await Install.EventuallyAsync(async () =>
            (await Install.RunAsync("redis-cli", ["-h", redis.Host, "-p", $"{redis.Port}", "hget", "appoxy:routes", Shop.Host])).Output.Contains(Shop.Uid, StringComparison.Ordinal),
            TimeSpan.FromSeconds(10));
        await load.EndAsync(atLeast: 100);
    }

    private async Task<HttpStatusCode?> StatusOrNullAsync(string host)
    {
        try
        {
            return (await Install.GetAsync(host)).Status;
        }
        catch (HttpRequestException)
        {
            return null;
        }
    }
}
