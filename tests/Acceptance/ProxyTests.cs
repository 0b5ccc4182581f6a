using System.Net;
using System.Net.Http.Json;
using System.Net.WebSockets;
using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

/// <summary>Two routerd and two global nginxes on one machine.</summary>
[Collection(FirstLane.Name)]
public sealed class ProxyTests(Install install) : ShopTests(install)
{
    private const string Page = "error-page.html.sbn", Global = "global.conf.sbn";
    private SecondProxy? second;

    private SecondProxy Second => second!;

    private string Overrides => Path.Combine(Install.Prefix, "etc/appoxy/templates");

    public override async Task InitializeAsync()
    {
        await base.InitializeAsync();
        second = await SecondProxy.StartAsync(Install);
    }

    public override async Task DisposeAsync()
    {
        await Second.DisposeAsync();
        using var api = Install.Api();
        foreach (var template in new[] { Page, Global })
            Assert.Equal(HttpStatusCode.OK, (await api.DeleteAsync($"v1/templates/{template}")).StatusCode);
        foreach (var file in Directory.EnumerateFiles(Overrides, "*.refused"))
            File.Delete(file);
        await base.DisposeAsync();
    }

    [Fact]
    public async Task Activated_template_serves_on_both_whichever_routerd_was_asked()
    {
        await using var load = new Load(Install, Shop.Host, fresh: true);
        await using var loadOfSecond = new Load(Install, Shop.Host, port: Second.HttpPort, fresh: true);
        await Install.MustAsync("templates", "apply", Page, await EditedAsync(Page, "<!-- by the first -->"));
        Assert.All(await ServingAsync(), text => Assert.Contains("by the first", text, StringComparison.Ordinal));
        var applied = await Second.AppoxyAsync("templates", "apply", Global, await EditedAsync(Global, "# by the second"));
        Assert.True(applied.ExitCode == 0, applied.ToString());
        Assert.Empty(applied.Error);
        Assert.All(await ServingAsync(), text => Assert.Contains("by the second", text, StringComparison.Ordinal));

        var numbers = (await NumberAsync(Page), await NumberAsync(Global));
        var proxies = JsonSerializer.Deserialize(await Second.Api().GetStringAsync("v1/templates"), AppoxyJson.Default.PageTemplateStatus)!
            .Items.Where(t => t.Nginx == "global").ToList();
        Assert.Equal(["r2", "r1"], proxies.Select(p => p.Name));
        Assert.All(proxies, p => Assert.Equal((numbers, (TemplateError?)null), ((p.Templates![Page], p.Templates[Global]), p.Error)));

        await Install.MustAsync("templates", "rollback", Page, "0");
        Assert.All(await ServingAsync(), text => Assert.DoesNotContain("by the first", text, StringComparison.Ordinal));
        await load.EndAsync(atLeast: 50);
        await loadOfSecond.EndAsync(atLeast: 50);
    }

    [Fact]
    public async Task File_edited_on_either_machine_reaches_the_other()
    {
        var shipped = await ShippedAsync(Page);
        foreach (var (here, there, mark) in new[] { (Overrides, Second.Overrides, "<!-- on the first -->"), (Second.Overrides, Overrides, "<!-- on the second -->") })
        {
            await File.WriteAllTextAsync(Path.Combine(here, Page), shipped + mark);
            await Install.EventuallyAsync(async () => (await ServingAsync()).All(s => s.Contains(mark, StringComparison.Ordinal)), TimeSpan.FromSeconds(15));
            Assert.Equal(shipped + mark, await File.ReadAllTextAsync(Path.Combine(there, Page)));
        }
        File.Delete(Path.Combine(Second.Overrides, Page));
        await Install.EventuallyAsync(() => Task.FromResult(!File.Exists(Path.Combine(Overrides, Page))), TimeSpan.FromSeconds(15));
        await Install.EventuallyAsync(async () => !(await ServingAsync()).Any(s => s.Contains("<!-- on", StringComparison.Ordinal)), TimeSpan.FromSeconds(15));
    }

    [Fact]
    public async Task Faulty_file_stays_where_it_was_edited_and_a_newer_version_sets_it_aside()
    {
        var (before, file) = (await NumberAsync(Global), Path.Combine(Overrides, Global));
        var faulty = "no_such_directive on;\n" + await ShippedAsync(Global);
        await File.WriteAllTextAsync(file, faulty);
        await Install.EventuallyAsync(async () => (await Install.MustAsync("templates", "list")).Contains("no_such_directive", StringComparison.Ordinal),
            TimeSpan.FromSeconds(15));
        await Task.Delay(TimeSpan.FromSeconds(3)); // long enough to be seen as settled
        Assert.Equal(before, await NumberAsync(Global));
        Assert.False(File.Exists(Path.Combine(Second.Overrides, Global)));

        var applied = await Second.AppoxyAsync("templates", "apply", Global, await EditedAsync(Global, "# better"));
        Assert.True(applied.ExitCode == 0, applied.ToString());
        Assert.All(await ServingAsync(), text => Assert.Contains("# better", text, StringComparison.Ordinal));
        Assert.Equal(faulty, await File.ReadAllTextAsync(file + ".refused"));
    }

    [Theory]
    [InlineData("-t")]
    [InlineData("probe")]
    public async Task Text_that_only_the_second_proxy_refuses_is_undone_on_both(string how)
    {
        var shipped = await ShippedAsync(Global);
        await Install.MustAsync("templates", "apply", Global, await EditedAsync(Global, "# what was before"));
        var (before, number) = (await ServingAsync(), await NumberAsync(Global));
        var extra = Path.Combine(Install.Prefix, "usr/share/appoxy/nginx/extra.conf");
        await File.WriteAllTextAsync(extra, "");
        try
        {
            // A file that is on one machine only; and a fault that only an nginx that serves visitors shows.
            var (text, line, words) = how == "-t"
                ? (shipped.Replace("http {\n", "http {\n  include {{ nginx.fragments }}/extra.conf;\n", StringComparison.Ordinal), LineOf(shipped, "http {") + 1, "extra.conf")
                : (shipped.Replace(".known()", $".{{{{ if http_port == {Second.HttpPort} }}}}knwon{{{{ else }}}}known{{{{ end }}}}()", StringComparison.Ordinal), 0, "with 500");
            Assert.NotEqual(shipped, text);
            await using var load = new Load(Install, Shop.Host, fresh: true);
            using var api = Install.Api();
            using var answer = await api.PostAsJsonAsync($"v1/templates/{Global}/activate", new { text });
            var problem = JsonDocument.Parse(await answer.Content.ReadAsStringAsync()).RootElement;
            Assert.Equal(HttpStatusCode.UnprocessableEntity, answer.StatusCode);
            Assert.Equal((SecondProxy.Name, Global, line), (problem.GetProperty("proxy").GetString(), problem.GetProperty("template").GetString(),
                problem.GetProperty("line").GetInt32()));
            Assert.Contains(words, problem.GetProperty("message").GetString(), StringComparison.Ordinal);
            Assert.Contains("proxy r2", problem.GetProperty("detail").GetString(), StringComparison.Ordinal);
            Assert.Equal(before, await ServingAsync());
            foreach (var folder in new[] { Overrides, Second.Overrides })
                Assert.EndsWith("# what was before\n", await File.ReadAllTextAsync(Path.Combine(folder, Global)), StringComparison.Ordinal);
            var history = await HistoryAsync(Global);
            Assert.Equal(number + 2, history[0].Number);
            Assert.Equal(history[0].Sha, history[2].Sha);
            Assert.Contains($"rolled back: proxy r2 refused version {number + 1}: ", history[0].By, StringComparison.Ordinal);
            Assert.DoesNotContain("\"error\"", await Install.MustAsync("templates", "list", "--json"), StringComparison.Ordinal);
            await load.EndAsync(atLeast: 10);
        }
        finally
        {
            File.Delete(extra);
        }
    }

    [Fact]
    public async Task Proxy_that_is_away_is_named_hinders_nobody_and_follows_when_it_is_back()
    {
        await Second.StopAsync("routerd", "KILL");
        var ran = await Install.AppoxyAsync("templates", "apply", Page, await EditedAsync(Page, "<!-- meanwhile -->"));
        Assert.True(ran.ExitCode == 0, ran.ToString());
        Assert.Contains("proxy r2 has not taken it yet", ran.Error, StringComparison.Ordinal);
        Assert.Contains("routerd r2 not heard of", await Install.MustAsync("templates", "list"), StringComparison.Ordinal);
        Assert.True(await Second.AnswersAsync(Shop.Host));
        Second.StartRouterd();
        await Install.EventuallyAsync(async () => (await Second.ServingAsync()).Contains("meanwhile", StringComparison.Ordinal), TimeSpan.FromSeconds(20));
    }

    [Fact]
    public async Task New_proxy_adopts_the_versions_in_force()
    {
        await Install.MustAsync("templates", "apply", Page, await EditedAsync(Page, "<!-- from before -->"));
        await Second.DisposeAsync();
        var number = await NumberAsync(Page);
        second = await SecondProxy.StartAsync(Install);
        await Install.EventuallyAsync(async () => (await Second.ServingAsync()).Contains("from before", StringComparison.Ordinal), TimeSpan.FromSeconds(15));
        Assert.Equal(number, await NumberAsync(Page));
        Assert.Contains("from before", (await ServingAsync())[0], StringComparison.Ordinal);
    }

    [Fact]
    public async Task Edited_file_is_served_by_with_postgres_away_and_reaches_the_other_when_it_is_back()
    {
        await Install.ServiceAsync("postgres", "down");
        try
        {
            await File.WriteAllTextAsync(Path.Combine(Second.Overrides, Page), await ShippedAsync(Page) + "<!-- without Postgres -->");
            await Install.EventuallyAsync(async () => (await Second.ServingAsync()).Contains("without Postgres", StringComparison.Ordinal), TimeSpan.FromSeconds(15));
        }
        finally
        {
            await Install.ServiceAsync("postgres", "up");
        }
        await Install.EventuallyAsync(async () => (await ServingAsync())[0].Contains("without Postgres", StringComparison.Ordinal), TimeSpan.FromSeconds(30));
    }

    [Fact]
    public async Task Killed_leader_fails_no_visitor_and_a_domain_added_at_the_other_routerd_is_served_by_both()
    {
        await Install.MustAsync("domains", "add", "shop", "before.test");
        await Install.EventuallyAsync(() => BothAnswerAsync("before.test"), TimeSpan.FromSeconds(10));
        await using (var load = new Load(Install, Shop.Host))
        await using (var loadOfSecond = new Load(Install, Shop.Host, port: Second.HttpPort))
        {
            await Install.RunAsync("kill", ["-KILL", $"{Install.ServicePid("routerd")}"]);
            await Install.ServiceAsync("routerd", "down");
            try
            {
                var added = await Second.AppoxyAsync("domains", "add", "shop", "after.test");
                Assert.True(added.ExitCode == 0, added.ToString());
                await Install.EventuallyAsync(() => BothAnswerAsync("after.test"), TimeSpan.FromSeconds(15));
                await Second.AppoxyAsync("domains", "remove", "shop", "before.test");
                await Install.EventuallyAsync(async () => (await StatusesAsync("before.test")).All(s => s == HttpStatusCode.NotFound), TimeSpan.FromSeconds(15));
            }
            finally
            {
                await Install.ServiceAsync("routerd", "up");
            }
            await load.EndAsync(atLeast: 100);
            await loadOfSecond.EndAsync(atLeast: 100);
        }
        await Install.EventuallyAsync(async () => (await Install.AppoxyAsync("domains", "remove", "shop", "after.test")).ExitCode == 0, TimeSpan.FromSeconds(20));
        await Install.EventuallyAsync(async () => (await StatusesAsync("after.test")).All(s => s == HttpStatusCode.NotFound), TimeSpan.FromSeconds(10));
    }

    [Theory]
    [InlineData("first")]
    [InlineData("second")]
    public async Task Stopped_nginx_leaves_the_other_serving_and_takes_what_it_missed_when_it_is_back(string stopped)
    {
        var first = stopped == "first";
        await using (var load = new Load(Install, Shop.Host, port: first ? Second.HttpPort : Install.HttpPort))
        {
            if (first)
                await Install.ServiceAsync("global-nginx", "down");
            else
                await Second.StopAsync("nginx");
            try
            {
                await Install.MustAsync("domains", "add", "shop", "missed.test");
                await Install.EventuallyAsync(async () => (await StatusesAsync("missed.test"))[first ? 1 : 0] == HttpStatusCode.OK, TimeSpan.FromSeconds(10));
            }
            finally
            {
                if (first)
                    await Install.ServiceAsync("global-nginx", "up");
                else
                    Second.StartNginx();
            }
            await Install.EventuallyAsync(() => BothAnswerAsync("missed.test"), TimeSpan.FromSeconds(15));
            await load.EndAsync(atLeast: 20);
        }
        await Install.MustAsync("domains", "remove", "shop", "missed.test");
        await Install.EventuallyAsync(async () => (await StatusesAsync("missed.test")).All(s => s == HttpStatusCode.NotFound), TimeSpan.FromSeconds(10));
    }

    [Fact]
    public async Task Old_workers_that_hold_too_much_memory_are_ended_oldest_first()
    {
        await Second.DisposeAsync();
        second = await SecondProxy.StartAsync(Install, maxOldMemory: "32m");
        var sockets = new List<ClientWebSocket>();
        for (var i = 0; i < 12; i++)
        {
            var socket = new ClientWebSocket();
            socket.Options.SetRequestHeader("Host", Shop.Host);
            await socket.ConnectAsync(new Uri($"ws://127.0.0.1:{Second.HttpPort}/"), default);
            sockets.Add(socket);
            await File.WriteAllTextAsync(Path.Combine(Second.Overrides, Global), $"{await ShippedAsync(Global)}# number {i}\n");
            await Install.EventuallyAsync(async () => (await Second.ServingAsync()).Contains($"# number {i}\n", StringComparison.Ordinal), TimeSpan.FromSeconds(15));
        }
        await Install.EventuallyAsync(async () => !await EchoesAsync(sockets[0]), TimeSpan.FromSeconds(10));
        Assert.All(await Task.WhenAll(sockets.TakeLast(2).Select(EchoesAsync)), Assert.True);
        foreach (var socket in sockets)
            socket.Dispose();
    }

    private static async Task<bool> EchoesAsync(ClientWebSocket socket)
    {
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(10));
        try
        {
            await socket.SendAsync("x"u8.ToArray(), WebSocketMessageType.Text, true, timeout.Token);
            return (await socket.ReceiveAsync(new byte[100], timeout.Token)).Count == "echo x".Length;
        }
        catch (WebSocketException)
        {
            return false;
        }
    }

    [Fact]
    public async Task Deployment_that_two_routerds_follow_happens_once()
    {
        var repository = await Install.RepositoryOfAsync("once", "followed");
        await Install.MustAsync("apps", "create", "followed");
        var ran = await Second.AppoxyAsync("deploy", "followed", "--git", repository.Url);
        using var api = Install.Api();
        var deployments = JsonSerializer.Deserialize(await api.GetStringAsync("v1/apps/followed/deployments"), AppoxyJson.Default.PageDeployment)!.Items;
        Assert.True(Assert.Single(deployments).State == DeploymentStates.Live, ran.ToString());
        var gone = await Second.AppoxyAsync("apps", "destroy", "followed", "--confirm", "followed");
        Assert.True(gone.ExitCode == 0, gone.ToString());
        await Task.Delay(TimeSpan.FromSeconds(4)); // a round of each routerd's loops, in which neither may bring it back
        Assert.DoesNotContain("followed", (await Install.DockerAsync("ps", "-a", "--format", "{{.Names}} {{.Labels}}")).Output, StringComparison.Ordinal);
    }

    private static int LineOf(string text, string part) => text[..text.IndexOf(part, StringComparison.Ordinal)].Split('\n').Length;

    private Task<string> ShippedAsync(string name) => File.ReadAllTextAsync(Path.Combine(Install.Prefix, "usr/share/appoxy/templates", name));

    /// <summary>A file that holds a shipped template with a line more.</summary>
    private async Task<string> EditedAsync(string template, string line)
    {
        var file = Path.Combine(Install.Prefix, "repos", "edited.sbn");
        await File.WriteAllTextAsync(file, $"{await ShippedAsync(template)}{line}\n");
        return file;
    }

    /// <summary>What the two nginxes' current versions hold, the first one's first.</summary>
    private async Task<string[]> ServingAsync()
    {
        var current = Path.Combine(Install.Prefix, "var/lib/appoxy/nginx/global/current");
        return [await File.ReadAllTextAsync(Path.Combine(current, "nginx.conf")) + await File.ReadAllTextAsync(Path.Combine(current, "pages/404.html")),
            await Second.ServingAsync()];
    }

    private async Task<HttpStatusCode?[]> StatusesAsync(string host) =>
        await Task.WhenAll(StatusAsync(Install.HttpPort, host), StatusAsync(Second.HttpPort, host));

    private async Task<bool> BothAnswerAsync(string host) => (await StatusesAsync(host)).All(s => s == HttpStatusCode.OK);

    private static async Task<HttpStatusCode?> StatusAsync(int port, string host)
    {
        using var http = LocalHttp.For($"http://127.0.0.1:{port}/", TimeSpan.FromSeconds(30));
        using var request = new HttpRequestMessage(HttpMethod.Get, "") { Headers = { Host = host } };
        try
        {
            using var response = await http.SendAsync(request);
            return response.StatusCode;
        }
        catch (HttpRequestException)
        {
            return null;
        }
    }

    private async Task<IReadOnlyList<TemplateVersion>> HistoryAsync(string template)
    {
        using var api = Install.Api();
        return JsonSerializer.Deserialize(await api.GetStringAsync($"v1/templates/{template}/versions"), AppoxyJson.Default.PageTemplateVersion)!.Items;
    }

    private async Task<int> NumberAsync(string template) => (await HistoryAsync(template)).FirstOrDefault()?.Number ?? 0;
}
