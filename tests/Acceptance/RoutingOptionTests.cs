using System.Diagnostics;
using System.Net;
using System.Net.Http.Headers;
using System.Net.WebSockets;
using System.Text;
using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

/// <summary>Each routing option through the real global nginx. No test reloads anything: that is looked at after each.</summary>
[Collection(FirstLane.Name)]
public sealed class RoutingOptionTests(Install install) : ShopTests(install)
{
    private static readonly TimeSpan Second = TimeSpan.FromSeconds(1);
    private string workers = "";

    public override async Task InitializeAsync()
    {
        await base.InitializeAsync();
        workers = await WorkersAsync();
    }

    public override async Task DisposeAsync()
    {
        foreach (var app in new[] { "shop", "hello" })
            await Install.MustAsync(["routing", app, .. RoutingOption.All.Select(o => $"{o.Name}=off"), "response-header=X-Test:"]);
        await Install.EventuallyAsync(async () => (await NginxAsync(Shop.Host)).Options.Length == 0, TimeSpan.FromSeconds(2));
        await base.DisposeAsync();
    }

    [Fact]
    public async Task Forced_https_redirects_within_a_second_whatever_a_visitor_forges_and_nothing_is_reloaded()
    {
        await SetAsync("force-https=on");
        foreach (var forged in new[] { "X-Forwarded-Proto", "X-Forwarded-Ssl", "Forwarded" })
        {
            using var response = await SendAsync(Get("/a/b?c=d%20e", r => r.Headers.Add(forged, forged == "Forwarded" ? "proto=https" : "https")));
            Assert.Equal(HttpStatusCode.PermanentRedirect, response.StatusCode);
            Assert.Equal("https://shop.localhost/a/b?c=d%20e", response.Headers.Location!.OriginalString);
        }
        // An app without options goes on as before.
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync("hello.localhost")).Status);
        Assert.Equal(workers, await WorkersAsync());
    }

    [Fact]
    public async Task Www_redirects_only_to_a_name_of_the_same_app()
    {
        await Install.MustAsync("domains", "add", "shop", "www.apex.test");
        await SetAsync("www=to-apex");
        await ServesAsync("www.apex.test");
        await Install.MustAsync("domains", "add", "hello", "apex.test");
        await Install.EventuallyAsync(async () => (await NginxAsync("apex.test")).Uid is not null, Second);
        Assert.StartsWith("shop", (await Install.GetAsync("www.apex.test")).Body, StringComparison.Ordinal);
        await Install.MustAsync("domains", "remove", "hello", "apex.test");
        await Install.MustAsync("domains", "add", "shop", "apex.test");
        await Install.EventuallyAsync(async () => (await Install.GetAsync("www.apex.test", "/x?y")).Status == HttpStatusCode.PermanentRedirect, Second);
        Assert.Equal("http://apex.test/x?y", (await Install.GetAsync("www.apex.test", "/x?y")).Response.Headers.Location!.OriginalString);
        await ServesAsync("apex.test");
        await SetAsync("www=to-www");
        await Install.EventuallyAsync(async () => (await Install.GetAsync("apex.test")).Status == HttpStatusCode.PermanentRedirect, Second);
        Assert.Equal("http://www.apex.test:81/", (await Install.GetAsync("apex.test:81")).Response.Headers.Location!.OriginalString);
        await ServesAsync("www.apex.test");
        await ServesAsync(Shop.Host);
        foreach (var host in new[] { "apex.test", "www.apex.test" })
            await Install.MustAsync("domains", "remove", "shop", host);
    }

    [Fact]
    public async Task Maintenance_shows_our_page_or_the_apps_own_for_every_method()
    {
        await SetAsync("maintenance=on");
        var (status, body, response) = await Install.GetAsync(Shop.Host, "/status/200");
        Assert.Equal(HttpStatusCode.ServiceUnavailable, status);
        Assert.Contains("Back soon", body, StringComparison.Ordinal);
        Assert.Equal(TimeSpan.FromMinutes(5), response.Headers.RetryAfter!.Delta);
        await SetAsync("maintenance-page=@" + await FileAsync("<h1>We paint the shop \u2014 'soon' \"back\"</h1>"));
        foreach (var method in new[] { HttpMethod.Get, HttpMethod.Post, HttpMethod.Delete })
        {
            using var answer = await SendAsync(new HttpRequestMessage(method, "/") { Headers = { Host = Shop.Host } });
            Assert.Equal(HttpStatusCode.ServiceUnavailable, answer.StatusCode);
            Assert.NotNull(answer.Headers.RetryAfter);
            Assert.Equal("<h1>We paint the shop \u2014 'soon' \"back\"</h1>", await answer.Content.ReadAsStringAsync());
        }
        await SetAsync("maintenance=off");
        await ServesAsync(Shop.Host);
        Assert.Equal(workers, await WorkersAsync());
    }

    [Fact]
    public async Task Error_page_of_the_app_stands_in_place_of_ours_and_never_of_what_the_app_answers()
    {
        const string Page = "<h1>Our shop has a cold</h1>";
        await SetAsync("error-page=@" + await FileAsync(Page));
        foreach (var (path, own) in new[] { ("/status/502", "own 502\n"), ("/status/503", "own 503\n"), ("/forged/503", "forged 503\n"), ("/forged/200", "forged 200\n") })
        {
            var (_, body, response) = await Install.GetAsync(Shop.Host, path);
            Assert.Equal(own, body);
            Assert.False(response.Headers.Contains("X-Appoxy-Page"));
        }
        await Install.MustAsync("stop", "shop");
        try
        {
            await Install.EventuallyAsync(async () => (await Install.DroidAsync("shop")).State == DroidStates.Stopped, TimeSpan.FromSeconds(40));
            // Of the local nginx …
            var (status, body, response) = await Install.GetAsync(Shop.Host);
            Assert.Equal((HttpStatusCode.ServiceUnavailable, Page), (status, body));
            Assert.NotNull(response.Headers.RetryAfter);
            Assert.Equal("text/html", response.Content.Headers.ContentType!.MediaType);
            using var head = await SendAsync(new HttpRequestMessage(HttpMethod.Head, "/") { Headers = { Host = Shop.Host } });
            Assert.Equal(HttpStatusCode.ServiceUnavailable, head.StatusCode);
        }
        finally
        {
            await Install.MustAsync("start", "shop");
        }
        // … and of the global one.
        await Install.ServiceAsync("local-nginx", "down");
        try
        {
            var (status, body, _) = await Install.GetAsync(Shop.Host);
            Assert.Equal((HttpStatusCode.BadGateway, Page), (status, body));
            Assert.Contains("The app did not answer", (await Install.GetAsync("hello.localhost")).Body, StringComparison.Ordinal);
        }
        finally
        {
            await Install.ServiceAsync("local-nginx", "up");
        }
        await Install.EventuallyAsync(async () => (await Install.GetAsync(Shop.Host)).Status == HttpStatusCode.OK, TimeSpan.FromSeconds(20));
    }

    [Fact]
    public async Task Basic_auth_lets_in_who_has_the_password_and_keeps_it_from_the_app()
    {
        await SetUserAsync();
        Assert.Equal(HttpStatusCode.Unauthorized, (await Install.GetAsync(Shop.Host)).Status);
        var challenge = (await Install.GetAsync(Shop.Host)).Response.Headers.WwwAuthenticate.Single();
        Assert.Equal("Basic", challenge.Scheme);
        using var response = await SendAsync(Get("/headers", Alice));
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        var headers = JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement;
        Assert.False(headers.TryGetProperty("authorization", out _));
        // The droid's own address is no way around, nor is the name under which nginx knows it.
        foreach (var host in new[] { $"{Shop.Uid}.ds1.localhost", $"{Shop.Uid}.7000.ds1.localhost" })
            Assert.Equal(HttpStatusCode.Unauthorized, (await Install.GetAsync(host)).Status);
        Assert.NotEqual(HttpStatusCode.OK, (await Install.GetAsync(Shop.Uid)).Status);
        // An app without auth gets the header as ever.
        await SetAsync("auth=off");
        using var open = await SendAsync(Get("/headers", Alice));
        Assert.StartsWith("Basic ", JsonDocument.Parse(await open.Content.ReadAsStringAsync()).RootElement.GetProperty("authorization").GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Guesses_of_a_password_are_bounded_for_each_client()
    {
        await SetUserAsync();
        var answers = new List<HttpStatusCode>();
        for (var guess = 0; guess < 30 && !answers.Contains(HttpStatusCode.TooManyRequests); guess++)
        {
            using var response = await SendAsync(Get("/", r => r.Headers.Authorization = Basic("alice", $"guess {guess}")));
            answers.Add(response.StatusCode);
            if (response.StatusCode == HttpStatusCode.TooManyRequests)
                Assert.NotNull(response.Headers.RetryAfter);
            // Slower than the bound for all clients together.
            await Task.Delay(TimeSpan.FromMilliseconds(210));
        }
        Assert.Equal(HttpStatusCode.TooManyRequests, answers[^1]);
        Assert.Equal(Enumerable.Repeat(HttpStatusCode.Unauthorized, 10), answers[..^1]);
        // The counter is this client's at this app, for a minute; the next test of auth starts with a new one.
        using var other = await SendAsync(Get("/", r => r.Headers.Host = "hello.localhost"));
        Assert.Equal(HttpStatusCode.OK, other.StatusCode);
        await ForgetCountersAsync();
    }

    [Fact]
    public async Task Protected_host_stays_protected_with_everything_else_dead_and_over_an_nginx_restart()
    {
        await SetUserAsync();
        using (var before = await SendAsync(Get("/", Alice)))
            Assert.Equal(HttpStatusCode.OK, before.StatusCode);
        // Awake, since nobody can wake it then.
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync("hello.localhost")).Status);
        var version = (await RedisAsync("get", "appoxy:routes:version")).Trim();
        await Install.EventuallyAsync(async () =>
            (await File.ReadAllTextAsync($"{Install.Prefix}/var/lib/appoxy/routes.snapshot")).StartsWith($"version {version}\n", StringComparison.Ordinal),
            TimeSpan.FromSeconds(10));
        string[] services = ["routerd", "droidd", "redis", "postgres"];
        try
        {
            foreach (var service in services)
                await Install.ServiceAsync(service, "down");
            await IsProtectedAsync();
            await Install.ServiceAsync("global-nginx", "down");
            await Install.ServiceAsync("global-nginx", "up");
            await IsProtectedAsync();
        }
        finally
        {
            foreach (var service in services.Reverse())
                await Install.ServiceAsync(service, "up");
            // Also after a failure, which is not to become that of the tests that follow.
            await ReadyAsync();
        }

        async Task IsProtectedAsync()
        {
            await Install.EventuallyAsync(async () => await StatusOrNullAsync(Shop.Host) is not null, TimeSpan.FromSeconds(10));
            foreach (var host in new[] { Shop.Host, $"{Shop.Uid}.ds1.localhost" })
                Assert.Equal(HttpStatusCode.Unauthorized, (await Install.GetAsync(host)).Status);
            using var response = await SendAsync(Get("/", Alice));
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
            Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync("hello.localhost")).Status);
        }
    }

    [Fact]
    public async Task Options_that_redis_lost_are_published_again_and_unused_ones_are_removed()
    {
        await SetUserAsync();
        var id = (await RedisAsync("hget", "appoxy:routes", Shop.Host)).Trim().Split(' ')[^1];
        Assert.Equal(32, id.Length);
        await RedisAsync("hdel", "appoxy:options", id);
        await RedisAsync("hset", "appoxy:options", new string('0', 32), "{}");
        // The publisher compares when it begins to lead.
        await Install.ServiceAsync("routerd", "down");
        await Install.ServiceAsync("routerd", "up");
        await Install.EventuallyAsync(async () => (await RedisAsync("hget", "appoxy:options", id)).Contains("alice", StringComparison.Ordinal)
            && (await RedisAsync("hget", "appoxy:options", new string('0', 32))).Trim().Length == 0, TimeSpan.FromSeconds(20));
        Assert.Equal(HttpStatusCode.Unauthorized, (await Install.GetAsync(Shop.Host)).Status);

        // Emptied, it gets them with its routes.
        await RedisAsync("flushall");
        await Install.EventuallyAsync(async () => (await RedisAsync("hget", "appoxy:options", id)).Contains("alice", StringComparison.Ordinal),
            TimeSpan.FromSeconds(10));
        Assert.Contains(id, await RedisAsync("hget", "appoxy:routes", Shop.Host), StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.Unauthorized, (await Install.GetAsync(Shop.Host)).Status);
    }

    [Fact]
    public async Task Host_whose_options_cannot_be_had_gets_503_and_is_never_let_through()
    {
        await SetUserAsync();
        var before = await RedisAsync("hget", "appoxy:routes", Shop.Host);
        // A route that names options which are nowhere, as a broken writer could leave it.
        var broken = before.Trim().Split(' ')[..^1].Append(new string('f', 32));
        await RedisAsync("hset", "appoxy:routes", Shop.Host, string.Join(' ', broken));
        await RedisAsync("publish", "appoxy:routes", $"{long.Parse((await RedisAsync("get", "appoxy:routes:version")).Trim(), null)} *");
        await Install.EventuallyAsync(async () => (await Install.GetAsync(Shop.Host)).Status == HttpStatusCode.ServiceUnavailable, TimeSpan.FromSeconds(2));
        using (var response = await SendAsync(Get("/", Alice)))
            Assert.Equal(HttpStatusCode.ServiceUnavailable, response.StatusCode);
        await RedisAsync("hset", "appoxy:routes", Shop.Host, before.Trim());
        await RedisAsync("publish", "appoxy:routes", $"{long.Parse((await RedisAsync("get", "appoxy:routes:version")).Trim(), null)} *");
        await Install.EventuallyAsync(async () => (await Install.GetAsync(Shop.Host)).Status == HttpStatusCode.Unauthorized, TimeSpan.FromSeconds(2));
    }

    [Theory]
    [InlineData("10.0.0.0/8", 403)]
    [InlineData("127.0.0.0/9", 200)]
    [InlineData("127.0.0.1", 200)]
    [InlineData("127.0.0.2/31,10.0.0.0/8", 403)]
    [InlineData("2001:db8::/32,127.0.0.0/31", 200)]
    [InlineData("::/0", 403)]
    [InlineData("0.0.0.0/0", 200)]
    public async Task Only_the_allowed_networks_come_in(string networks, int status)
    {
        await SetAsync($"allow-ips={networks}");
        using var response = await SendAsync(Get("/", r => r.Headers.Add("X-Forwarded-For", "10.1.1.1, 127.0.0.3")));
        Assert.Equal(status, (int)response.StatusCode);
    }

    [Fact]
    public async Task Bodies_are_bounded_by_their_length_and_in_chunks()
    {
        await SetAsync("max-body=200k");
        foreach (var chunked in new[] { false, true })
        {
            foreach (var (size, right) in new[] { (200 << 10, HttpStatusCode.OK), ((200 << 10) + 1, HttpStatusCode.RequestEntityTooLarge), (100, HttpStatusCode.OK) })
            {
                var bytes = new byte[size];
                Random.Shared.NextBytes(bytes);
                using var request = new HttpRequestMessage(HttpMethod.Post, "/sha256") { Headers = { Host = Shop.Host, TransferEncodingChunked = chunked }, Content = new ByteArrayContent(bytes) };
                request.Headers.ExpectContinue = true;
                using var response = await SendAsync(request);
                Assert.Equal(right, response.StatusCode);
                if (right == HttpStatusCode.OK)
                    Assert.Equal(Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(bytes)), await response.Content.ReadAsStringAsync());
            }
        }
    }

    [Fact]
    public async Task Read_timeout_of_the_app_is_kept()
    {
        await SetAsync("read-timeout=1s");
        Assert.Equal("slow\n", (await Install.GetAsync(Shop.Host, "/slow/200")).Body);
        var waited = Stopwatch.StartNew();
        Assert.Equal(HttpStatusCode.GatewayTimeout, (await Install.GetAsync(Shop.Host, "/slow/20000")).Status);
        Assert.InRange(waited.Elapsed.TotalSeconds, 0.9, 8);
        using var post = await SendAsync(new HttpRequestMessage(HttpMethod.Post, "/sha256") { Headers = { Host = Shop.Host }, Content = new StringContent("hello") });
        Assert.Equal(HttpStatusCode.OK, post.StatusCode);
    }

    [Fact]
    public async Task Rate_limit_lets_a_burst_through_and_tells_the_rest_when_to_come_again()
    {
        await ForgetCountersAsync();
        await SetAsync("rate-limit=6r/m,burst=4");
        var answers = new List<HttpStatusCode>();
        for (var i = 0; i < 8; i++)
        {
            using var response = await SendAsync(Get("/"));
            answers.Add(response.StatusCode);
            if (response.StatusCode == HttpStatusCode.TooManyRequests)
                Assert.InRange(response.Headers.RetryAfter!.Delta!.Value.TotalSeconds, 1, 10);
        }
        Assert.Equal([.. Enumerable.Repeat(HttpStatusCode.OK, 5), .. Enumerable.Repeat(HttpStatusCode.TooManyRequests, 3)], answers);
        for (var i = 0; i < 20; i++)
            Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync("hello.localhost")).Status);
    }

    [Fact]
    public async Task Response_headers_stand_in_place_of_the_apps()
    {
        await SetAsync("response-header=X-Test: a \"b\" {{ c }} $uid;", "response-header=X-Frame-Options:DENY");
        var (status, _, response) = await Install.GetAsync(Shop.Host);
        Assert.Equal(HttpStatusCode.OK, status);
        Assert.Equal("a \"b\" {{ c }} $uid;", response.Headers.GetValues("X-Test").Single());
        Assert.Equal("DENY", response.Headers.GetValues("X-Frame-Options").Single());
        Assert.False((await Install.GetAsync("hello.localhost")).Response.Headers.Contains("X-Frame-Options"));
        await SetAsync("response-header=X-Frame-Options:");
        await Install.EventuallyAsync(async () => !(await Install.GetAsync(Shop.Host)).Response.Headers.Contains("X-Frame-Options"), Second);
    }

    [Fact]
    public async Task Websocket_passes_through_options_and_is_protected_by_them()
    {
        await SetUserAsync();
        await SetAsync("response-header=X-Test: a", "read-timeout=30s", "rate-limit=100r/s");
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(20));
        using var stranger = new ClientWebSocket();
        stranger.Options.SetRequestHeader("Host", Shop.Host);
        await Assert.ThrowsAsync<WebSocketException>(() => stranger.ConnectAsync(new Uri($"ws://127.0.0.1:{Install.HttpPort}/"), timeout.Token));
        using var alice = new ClientWebSocket();
        alice.Options.SetRequestHeader("Host", Shop.Host);
        alice.Options.SetRequestHeader("Authorization", Basic("alice", "secret-word").ToString());
        await alice.ConnectAsync(new Uri($"ws://127.0.0.1:{Install.HttpPort}/"), timeout.Token);
        await alice.SendAsync("hello"u8.ToArray(), WebSocketMessageType.Text, true, timeout.Token);
        var buffer = new byte[100];
        var received = await alice.ReceiveAsync(buffer, timeout.Token);
        Assert.Equal("echo hello", Encoding.UTF8.GetString(buffer, 0, received.Count));
    }

    [Fact]
    public async Task Canary_gets_its_share_keeps_its_visitors_and_moves_nobody_back()
    {
        await SetAsync("canary=hello:30");
        var visitors = new List<(string Cookie, bool Canary)>();
        for (var i = 0; i < 200; i++)
        {
            var (_, body, response) = await Install.GetAsync(Shop.Host);
            var cookie = response.Headers.GetValues("Set-Cookie").Single();
            Assert.Contains("HttpOnly", cookie, StringComparison.Ordinal);
            Assert.Contains("SameSite=Lax", cookie, StringComparison.Ordinal);
            visitors.Add((cookie.Split(';')[0], !body.StartsWith("shop", StringComparison.Ordinal)));
        }
        // 60 of 200 are expected; beyond 35 and 85 once in some 10,000 runs.
        Assert.InRange(visitors.Count(v => v.Canary), 35, 85);
        async Task<bool> IsCanaryAsync(string cookie)
        {
            using var response = await SendAsync(Get("/", r => r.Headers.Add("Cookie", cookie)));
            Assert.False(response.Headers.Contains("Set-Cookie"));
            return !(await response.Content.ReadAsStringAsync()).StartsWith("shop", StringComparison.Ordinal);
        }
        foreach (var (cookie, canary) in visitors.Take(40))
            Assert.Equal(canary, await IsCanaryAsync(cookie));
        await SetAsync("canary=hello:60");
        await Install.EventuallyAsync(async () => await IsCanaryAsync("appoxy_bucket=59"), Second);
        foreach (var (cookie, _) in visitors.Where(v => v.Canary).Take(40))
            Assert.True(await IsCanaryAsync(cookie));
        Assert.False(await IsCanaryAsync("appoxy_bucket=60"));
        // The owner's protection of the shop holds for its canary, too, and canaries don't chain.
        var chained = await Install.AppoxyAsync("routing", "hello", "canary=shop:10");
        Assert.Equal(2, chained.ExitCode);
        Assert.Contains("do not chain", chained.Error, StringComparison.Ordinal);
        await SetAsync("allow-ips=10.0.0.0/8");
        await Install.EventuallyAsync(async () => (await Install.GetAsync(Shop.Host)).Status == HttpStatusCode.Forbidden, Second);
    }

    [Theory]
    [InlineData("""{"forceHttps":"yes"}""", "forceHttps")]
    [InlineData("""{"forceHttps":true}""", "forceHttps")]
    [InlineData("""{"www":"to-mars"}""", "www")]
    [InlineData("""{"auth":"alice"}""", "auth")]
    [InlineData("""{"auth":"al:ice","passwords":{"al:ice":"secret-word"}}""", "auth")]
    [InlineData("""{"auth":"alice","passwords":{"alice":"short"}}""", "passwords")]
    [InlineData("""{"passwords":{"alice":"secret-word"}}""", "passwords")]
    [InlineData("""{"allowIps":"10.0.0.0/8; deny all"}""", "allowIps")]
    [InlineData("""{"allowIps":""}""", "allowIps")]
    [InlineData("""{"maxBody":"1g"}""", "maxBody")]
    [InlineData("""{"readTimeout":"forever"}""", "readTimeout")]
    [InlineData("""{"rateLimit":"10"}""", "rateLimit")]
    [InlineData("""{"canary":"shop:10"}""", "canary")]
    [InlineData("""{"canary":"nobody-has-this:10"}""", "canary")]
    [InlineData("""{"responseHeaders":{"X-A\r\nX-B":"1"}}""", "responseHeaders")]
    [InlineData("""{"responseHeaders":{"X-A":"1\r\nSet-Cookie: a=b"}}""", "responseHeaders")]
    [InlineData("""{"responseHeaders":{"Transfer-Encoding":"chunked"}}""", "responseHeaders")]
    [InlineData("""{"responseHeaders":{"X-Accel-Redirect":"/"}}""", "responseHeaders")]
    [InlineData("""{"errorPage":"a\u0000b"}""", "errorPage")]
    [InlineData("""{"maintenance":"on","nonsense":"1"}""", "nonsense")]
    public async Task Hostile_option_is_refused_with_its_member_named_and_changes_nothing(string body, string member)
    {
        using var api = Install.Api();
        var before = (await api.GetStringAsync("v1/apps/shop/routing"), await RedisAsync("hget", "appoxy:routes", Shop.Host));
        using var content = new StringContent(body, Encoding.UTF8, "application/json");
        using var response = await api.PatchAsync("v1/apps/shop/routing", content);
        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
        Assert.Equal("application/problem+json", response.Content.Headers.ContentType!.MediaType);
        Assert.Contains(member, JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement.GetProperty("detail").GetString(), StringComparison.Ordinal);
        Assert.Equal(before, (await api.GetStringAsync("v1/apps/shop/routing"), await RedisAsync("hget", "appoxy:routes", Shop.Host)));
    }

    [Fact]
    public async Task Cli_and_api_show_options_without_secrets_and_route_names_them()
    {
        await SetUserAsync();
        await SetAsync("max-body=10M", "error-page=@" + await FileAsync("<p>sorry</p>"));
        var table = await Install.MustAsync("routing", "shop");
        Assert.Matches(@"auth +alice\n", table);
        Assert.Matches(@"max-body +10m\n", table);
        Assert.Matches(@"error-page +HTML, 12 characters\n", table);
        var json = await Install.MustAsync("routing", "shop", "--json");
        Assert.Contains("\"auth\": \"alice\"", json, StringComparison.Ordinal);
        var route = await Install.MustAsync("route", Shop.Host);
        Assert.Contains("error-page, auth, max-body", route, StringComparison.Ordinal);
        foreach (var text in new[] { table, json, route })
        {
            Assert.DoesNotContain("pbkdf2", text, StringComparison.Ordinal);
            Assert.DoesNotContain("secret-word", text, StringComparison.Ordinal);
        }
        foreach (var wrong in new[] { "max-body=lots", "colour=red", "auth=off --password-file x", "response-header=Connection:close", "error-page=<h1>" })
            Assert.Equal(2, (await Install.AppoxyAsync(["routing", "shop", .. wrong.Split(' ')])).ExitCode);
        Assert.Contains("maintenance-page=@back-soon.html", await Install.MustAsync("routing", "--help"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Load_balancer_is_believed_only_where_the_settings_trust_it()
    {
        var file = $"{Install.Prefix}/etc/appoxy/routerd.json";
        var before = await File.ReadAllTextAsync(file);
        await SetAsync("force-https=on", "allow-ips=192.0.2.0/24");
        static void Forward(HttpRequestMessage request)
        {
            request.Headers.Add("X-Forwarded-For", "6.6.6.6, 192.0.2.9");
            request.Headers.Add("X-Forwarded-Proto", "https");
            request.Headers.Add("X-Request-Id", "from-the-balancer");
        }
        try
        {
            await TrustAsync("127.0.0.0/8");
            HttpResponseMessage? response = null;
            await Install.EventuallyAsync(async () => (response = await SendAsync(Get("/headers", Forward))).StatusCode == HttpStatusCode.OK, TimeSpan.FromSeconds(20));
            var headers = JsonDocument.Parse(await response!.Content.ReadAsStringAsync()).RootElement;
            foreach (var (name, value) in new[] { ("x-forwarded-for", "192.0.2.9"), ("x-forwarded-proto", "https"), ("x-forwarded-port", "443"), ("x-request-id", "from-the-balancer") })
                Assert.Equal(value, headers.GetProperty(name).GetString());
            await TrustAsync("10.0.0.0/8");
            await Install.EventuallyAsync(async () => (await SendAsync(Get("/headers", Forward))).StatusCode == HttpStatusCode.PermanentRedirect, TimeSpan.FromSeconds(20));
        }
        finally
        {
            await File.WriteAllTextAsync(file, before);
            await TrustAsync(null);
            await ReadyAsync();
        }

        async Task TrustAsync(string? network)
        {
            if (network is not null)
                await File.WriteAllTextAsync(file, before.Replace("\"trustedProxies\": []", $"\"trustedProxies\": [\"{network}\"]", StringComparison.Ordinal));
            await Install.ServiceAsync("routerd", "down");
            await Install.ServiceAsync("routerd", "up");
        }
    }

    private Task SetUserAsync() => SetAsync($"auth=alice --password-file {Path.Combine(Install.Prefix, "alice.password")}".Split(' '));

    /// <summary>Sets options of the shop by the CLI, and waits, a second at most, until nginx goes by them.</summary>
    private async Task SetAsync(params string[] options)
    {
        await File.WriteAllTextAsync(Path.Combine(Install.Prefix, "alice.password"), "secret-word\n");
        await Install.MustAsync(["routing", "shop", .. options]);
        var wanted = options.Where(o => !o.EndsWith("=off", StringComparison.Ordinal) && !o.EndsWith(':') && o.Contains('=', StringComparison.Ordinal))
            .Select(o => o.Split('=')[0].Replace("response-header", "response-headers", StringComparison.Ordinal)).ToHashSet();
        var cleared = options.Where(o => o.EndsWith("=off", StringComparison.Ordinal)).Select(o => o.Split('=')[0]).ToHashSet();
        await Install.EventuallyAsync(async () =>
        {
            var known = (await NginxAsync(Shop.Host)).Options;
            return wanted.IsSubsetOf(known) && !cleared.Overlaps(known);
        }, Second);
    }

    private async Task<(string? Uid, string[] Options)> NginxAsync(string host)
    {
        using var control = LocalHttp.For($"unix:{Install.Prefix}/run/appoxy/global-control.sock", TimeSpan.FromSeconds(5));
        var answer = JsonDocument.Parse(await control.GetStringAsync($"routes/{host}")).RootElement;
        return (answer.TryGetProperty("uid", out var uid) ? uid.GetString() : null,
            answer.TryGetProperty("options", out var options) ? [.. options.EnumerateArray().Select(o => o.GetString()!)] : []);
    }

    private async Task ServesAsync(string host) => await Install.EventuallyAsync(
        async () => (await Install.GetAsync(host)).Body.StartsWith("shop", StringComparison.Ordinal), TimeSpan.FromSeconds(2));

    private HttpRequestMessage Get(string path, Action<HttpRequestMessage>? with = null)
    {
        var request = new HttpRequestMessage(HttpMethod.Get, path) { Headers = { Host = Shop.Host } };
        with?.Invoke(request);
        return request;
    }

    private static void Alice(HttpRequestMessage request) => request.Headers.Authorization = Basic("alice", "secret-word");

    private static AuthenticationHeaderValue Basic(string user, string password) =>
        new("Basic", Convert.ToBase64String(Encoding.UTF8.GetBytes($"{user}:{password}")));

    private async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request)
    {
        using var http = LocalHttp.For($"http://127.0.0.1:{Install.HttpPort}/", TimeSpan.FromSeconds(60));
        using (request)
            return await http.SendAsync(request);
    }

    private async Task<string> FileAsync(string text)
    {
        var path = Path.Combine(Install.Prefix, "page.html");
        await File.WriteAllTextAsync(path, text);
        return path;
    }

    private async Task<string> RedisAsync(params string[] command)
    {
        var redis = new Uri(Install.Installed("redis"));
        var ran = await Install.RunAsync("redis-cli", ["-h", redis.Host, "-p", $"{redis.Port}", .. command]);
        Assert.Equal(0, ran.ExitCode);
        return ran.Output;
    }

    /// <summary>An nginx that starts has counted nothing.</summary>
    private async Task ForgetCountersAsync()
    {
        await Install.ServiceAsync("global-nginx", "down");
        await Install.ServiceAsync("global-nginx", "up");
        await Install.EventuallyAsync(async () => await StatusOrNullAsync("hello.localhost") == HttpStatusCode.OK, TimeSpan.FromSeconds(10));
    }

    private async Task ReadyAsync()
    {
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

    /// <summary>The worker processes of both nginxes.</summary>
    private async Task<string> WorkersAsync()
    {
        var found = "";
        foreach (var service in new[] { "global-nginx", "local-nginx" })
            found += (await Install.RunAsync("pgrep", ["-P", $"{Install.ServicePid(service)}"])).Output;
        Assert.NotEmpty(found);
        return found;
    }
}
