using System.Diagnostics;
using System.Net;
using Xunit.Abstractions;

namespace Appoxy.Tests.Acceptance;

/// <summary>Apps as people write them, in several languages, each from git with its packages from a registry. Node is the shop.</summary>
[Collection(FirstLane.Name)]
public sealed class AppKindTests(Install install, ITestOutputHelper output)
{
    [Fact]
    public Task Php_app_is_deployed_and_answers() => DeployedAsync("notes", async site =>
        Assert.Equal("<h1>Notes of A &amp; B</h1>", await site.GetStringAsync("/?name=A+%26+B")));

    [Fact]
    public Task Static_site_is_deployed_and_answers() => DeployedAsync("site", async site =>
    {
        Assert.Equal("<h1>Our site</h1>\n<p>It is <strong>static</strong>.</p>\n", await site.GetStringAsync("/"));
        using var missing = await site.GetAsync(new Uri("/nothing", UriKind.Relative));
        Assert.Equal(HttpStatusCode.NotFound, missing.StatusCode);
    });

    [Fact]
    public Task Python_app_is_deployed_and_answers_and_its_volume_outlives_deployments() => DeployedAsync("guestbook", async site =>
    {
        using var signed = await site.PostAsync("/", new FormUrlEncodedContent([new("name", "Ada")]));
        Assert.Equal(HttpStatusCode.Created, signed.StatusCode);
        Assert.StartsWith("[\"Ada\"", await site.GetStringAsync("/"), StringComparison.Ordinal);
    }, made: async () => await install.MustAsync("volumes", "create", "guestbook", "data", "/data"), slept: async (site, repository) =>
    {
        await repository.ReplaceAsync("app.py", "A guest book", "A newer guest book");
        await install.MustAsync("deploy", "guestbook", "--git", repository.Url, "--ref", "main");
        Assert.Equal("[\"Ada\",\"Ada\"]\n", await site.GetStringAsync("/"));
    });

    [Fact]
    public async Task Dotnet_app_is_deployed_and_answers_and_its_worker_works()
    {
        await BaseImages.LoadDotnetAsync(install);
        await DeployedAsync("greeter", async site =>
            Assert.Equal("You are visitor XXI", await site.GetStringAsync("/21")), slept: async (_, _) =>
        {
            await install.MustAsync("scale", "greeter", "worker=1");
            await Install.EventuallyAsync(async () => (await install.MustAsync("logs", "greeter")).Contains("round III of work", StringComparison.Ordinal),
                TimeSpan.FromSeconds(20));
        });
    }

    private async Task DeployedAsync(
        string kind, Func<HttpClient, Task> visit, Func<Task>? made = null, Func<HttpClient, GitRepository, Task>? slept = null)
    {
        var repository = await install.RepositoryOfAsync(kind, kind);
        await install.MustAsync("apps", "create", kind);
        if (made is not null)
            await made();
        var start = Stopwatch.GetTimestamp();
        await install.MustAsync("deploy", kind, "--git", repository.Url, "--ref", "main");
        output.WriteLine($"{kind} was deployed in {Stopwatch.GetElapsedTime(start).TotalSeconds:0.0} s");
        using var site = install.Site(kind + ".localhost");
        await visit(site);
        // It is stopped, and wakes.
        await install.MustAsync("snooze", kind);
        await visit(site);
        if (slept is not null)
            await slept(site, repository);
        await install.MustAsync("apps", "destroy", kind, "--confirm", kind);
    }
}
