using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using CliWrap;

namespace Appoxy.Tests.Acceptance;

/// <summary>What the daemons count, tell of each request and hand to a collector.</summary>
[Collection(SecondLane.Name)]
public sealed partial class MetricsTests(Install install)
{
    private const string Hello = "hello.localhost";

    [Fact]
    public async Task Each_visit_counts_for_its_app_its_status_and_its_wake_and_no_host_is_a_label()
    {
        await install.GetAsync(Hello);
        await Task.Delay(TimeSpan.FromSeconds(2.5));
        var before = (await DroiddAsync(), await RouterdAsync());
        for (var visit = 0; visit < 7; visit++)
            Assert.Equal(HttpStatusCode.OK, (await install.GetAsync(Hello)).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await install.GetAsync(Hello, "/nothing-here")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await install.GetAsync("nobody-has-this.localhost")).Status);
        await install.MustAsync("snooze", "hello");
        Assert.Equal(HttpStatusCode.OK, (await install.GetAsync(Hello)).Status);
        await Task.Delay(TimeSpan.FromSeconds(2.5));
        var after = (await DroiddAsync(), await RouterdAsync());

        void Grew(double by, string series, bool atLeast = false)
        {
            var (had, has) = series.StartsWith("appoxy_proxy", StringComparison.Ordinal) ? (before.Item2, after.Item2) : (before.Item1, after.Item1);
            var grown = Of(has, series) - Of(had, series);
            Assert.True(atLeast ? grown >= by : grown == by, $"{series} grew by {grown}, not {by}");
        }
        Grew(8, "appoxy_app_requests_total{app=\"hello\",status=\"2xx\"}");
        Grew(1, "appoxy_app_requests_total{app=\"hello\",status=\"4xx\"}");
        Grew(9, "appoxy_app_request_duration_seconds_count{app=\"hello\"}");
        Grew(0, "appoxy_app_errors_total{app=\"hello\"}");
        Grew(1, "appoxy_wake_duration_seconds_count{kind=\"start\",outcome=\"ready\"}");
        Grew(1, "appoxy_app_wakes_total{app=\"hello\",kind=\"start\"}");
        Grew(1, "appoxy_hook_duration_seconds_count{outcome=\"ready\"}");
        // What an app answers well, the global nginx does not log.
        Grew(0, "appoxy_proxy_requests_total{by=\"app\",status=\"2xx\"}");
        Grew(1, "appoxy_proxy_requests_total{by=\"app\",status=\"4xx\"}", atLeast: true);
        Grew(1, "appoxy_proxy_requests_total{by=\"nginx\",status=\"4xx\"}", atLeast: true);
        Assert.Equal(1, Of(after.Item2, "appoxy_postgres_up{}"));
        Assert.Equal(1, Of(after.Item2, "appoxy_nginx_up{}"));
        Assert.True(Of(after.Item2, "appoxy_server_heartbeat_age_seconds{server=\"ds1\"}") < 10);
        foreach (var text in new[] { after.Item1, after.Item2 })
        {
            Assert.DoesNotContain("localhost\"", text, StringComparison.Ordinal);
            Assert.DoesNotContain("Password", text, StringComparison.OrdinalIgnoreCase);
            var typed = text.Split('\n').Where(l => l.StartsWith("# TYPE ", StringComparison.Ordinal)).Select(l => l.Split(' ')[2]).ToHashSet();
            foreach (var line in text.Split('\n').Where(l => l.Length > 0 && l[0] != '#'))
                Assert.True(Line().Match(line) is { Success: true } m && (typed.Contains(m.Groups[1].Value) || typed.Contains(Suffix().Replace(m.Groups[1].Value, ""))), line);
        }
    }

    [Fact]
    public async Task Metrics_of_both_daemons_are_for_admins_and_for_tokens_that_may_do_nothing_else()
    {
        var token = (await install.MustAsync("tokens", "create", "prometheus", "--scope", "metrics")).Trim();
        using var http = install.Site("console.localhost");
        http.DefaultRequestHeaders.Authorization = new("Bearer", token);
        Assert.Contains("appoxy_route_publisher_leads", await http.GetStringAsync("metrics"), StringComparison.Ordinal);
        Assert.Contains("appoxy_droids{state=\"running\"}", await http.GetStringAsync("v1/servers/ds1/metrics"), StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.NotFound, (await http.GetAsync("v1/servers/ds99/metrics")).StatusCode);
        foreach (var path in new[] { "v1/apps", "v1/servers", "v1/servers/ds1", "v1/account", "v1/tokens", "v1/doctor", "v1/apps/hello/env", "v1/audit" })
            Assert.Equal(HttpStatusCode.Forbidden, (await http.GetAsync(path)).StatusCode);
        using var another = await http.PostAsync("v1/tokens", new StringContent("""{"name":"a","scope":"metrics"}""", Encoding.UTF8, "application/json"));
        Assert.Equal(HttpStatusCode.Forbidden, another.StatusCode);
        var member = await Member.MakeAsync(install, "mia@metrics.test");
        http.DefaultRequestHeaders.Authorization = new("Bearer", member.Token);
        Assert.Equal(HttpStatusCode.Forbidden, (await http.GetAsync("metrics")).StatusCode);
        using var theirs = await http.PostAsync("v1/tokens", new StringContent("""{"name":"a","scope":"metrics"}""", Encoding.UTF8, "application/json"));
        Assert.Equal(HttpStatusCode.Forbidden, theirs.StatusCode);
        // Of an admin who is one no more.
        await install.SqlAsync("update tokens set user_id = (select id from users where email = 'mia@metrics.test') where name = 'prometheus'");
        http.DefaultRequestHeaders.Authorization = new("Bearer", token);
        Assert.Equal(HttpStatusCode.Unauthorized, (await http.GetAsync("metrics")).StatusCode);
        await install.SqlAsync("delete from users where email = 'mia@metrics.test'");
    }

    [Fact]
    public async Task Request_is_known_by_one_id_in_answers_and_in_the_logs_of_nginx_and_of_both_daemons()
    {
        using var api = install.Api();
        using var own = new HttpRequestMessage(HttpMethod.Get, "v1/apps/no-such-app") { Headers = { { "X-Request-Id", "mine-1.2_3" } } };
        await IsAsync("mine-1.2_3", await api.SendAsync(own));
        using var odd = new HttpRequestMessage(HttpMethod.Get, "v1/apps/no-such-app");
        odd.Headers.TryAddWithoutValidation("X-Request-Id", "a b\"{}");
        var given = await IsAsync(null, await api.SendAsync(odd));
        Assert.Matches("^[0-9a-f]{32}$", given);

        using var console = install.Site("console.localhost");
        console.DefaultRequestHeaders.Authorization = new("Bearer", install.Token);
        await install.GetAsync(Hello);
        using var snoozed = await console.PostAsync("v1/apps/hello/snooze", null);
        var id = Assert.Single(snoozed.Headers.GetValues("X-Request-Id"));
        await Install.EventuallyAsync(async () => (await LogAsync("global-access.log")).Contains($"\"request_id\":\"{id}\"", StringComparison.Ordinal)
            && (await LogAsync("droidd/current")).Contains($"snoozed request_id={id}", StringComparison.Ordinal), TimeSpan.FromSeconds(5));

        static async Task<string> IsAsync(string? id, HttpResponseMessage response)
        {
            var sent = Assert.Single(response.Headers.GetValues("X-Request-Id"));
            Assert.Equal(sent, (await response.Content.ReadFromJsonAsync<JsonElement>()).GetProperty("requestId").GetString());
            Assert.Equal(id ?? sent, sent);
            response.Dispose();
            return sent;
        }
    }

    [Fact]
    public async Task Collector_gets_metrics_and_a_trace_of_a_deployment_over_both_daemons_and_logs_are_json_where_wanted()
    {
        using var collector = new Collector();
        var local = Path.Combine(install.Prefix, "etc/appoxy/routerd.local.json");
        var before = File.Exists(local) ? await File.ReadAllTextAsync(local) : null;
        var trace = Guid.NewGuid().ToString("N");
        await install.WithSettingsAsync(s => (s["otlp"], s["logFormat"]) = (collector.Url, "json"), async () =>
        {
            await File.WriteAllTextAsync(local, $$"""{ "otlp": "{{collector.Url}}", "logFormat": "json" }""");
            try
            {
                await RestartRouterdAsync();
                await install.MustAsync("apps", "create", "traced");
                using var api = install.Api();
                using var deploy = new HttpRequestMessage(HttpMethod.Post, "v1/apps/traced/deployments")
                {
                    Headers = { { "traceparent", $"00-{trace}-00f067aa0ba902b7-01" } },
                    Content = new StringContent("""{"source":{"git":{"url":"file:///nowhere"}}}""", Encoding.UTF8, "application/json"),
                };
                using var begun = await api.SendAsync(deploy);
                Assert.True(begun.IsSuccessStatusCode, await begun.Content.ReadAsStringAsync());
                // In a trace of the same id: what routerd did, and droidd's deployment with its steps.
                await Install.EventuallyAsync(() => Task.FromResult(collector.Has("/v1/traces", "routerd", trace) && collector.Has("/v1/traces", "droidd", trace, "deployment", "fetching")),
                    TimeSpan.FromSeconds(60));
                var password = (await File.ReadAllTextAsync(Path.Combine(install.Prefix, "etc/appoxy/postgres.password"))).Trim();
                Assert.False(collector.Has("/v1/traces", "routerd", password) || collector.Has("/v1/traces", "routerd", install.Token));
                var line = (await LogAsync("routerd/current")).Split('\n').Last(l => l.Contains("Deployment", StringComparison.Ordinal) && l.Contains('{', StringComparison.Ordinal));
                Assert.Equal("Information", JsonDocument.Parse(line[line.IndexOf('{', StringComparison.Ordinal)..]).RootElement.GetProperty("LogLevel").GetString());
                // A daemon that ends sends what it has.
                await install.RestartAsync("routerd");
                await Install.EventuallyAsync(() => Task.FromResult(collector.Has("/v1/metrics", "routerd")), TimeSpan.FromSeconds(10));
            }
            finally
            {
                if (before is null)
                    File.Delete(local);
                else
                    await File.WriteAllTextAsync(local, before);
            }
        });
        await RestartRouterdAsync();
        await install.MustAsync("apps", "destroy", "traced", "--confirm", "traced");
    }

    private async Task RestartRouterdAsync()
    {
        await install.RestartAsync("routerd");
        using var api = install.Api();
        await Install.EventuallyAsync(async () =>
        {
            try
            {
                return (await api.GetAsync("readyz")).IsSuccessStatusCode;
            }
            catch (HttpRequestException)
            {
                return false;
            }
        }, TimeSpan.FromSeconds(20));
    }

    private async Task<string> LogAsync(string name)
    {
        await using var file = new FileStream(Path.Combine(install.Prefix, "var/log/appoxy", name), FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        file.Seek(Math.Max(0, file.Length - (1 << 20)), SeekOrigin.Begin);
        using var reader = new StreamReader(file);
        return await reader.ReadToEndAsync();
    }

    private async Task<string> RouterdAsync()
    {
        using var api = install.Api();
        return await api.GetStringAsync("metrics");
    }

    private async Task<string> DroiddAsync()
    {
        using var droidd = LocalHttp.For($"unix:{install.Prefix}/run/appoxy/droidd.sock", TimeSpan.FromSeconds(10));
        return await droidd.GetStringAsync("metrics");
    }

    /// <summary>A series' value; 0 where it is not told yet.</summary>
    private static double Of(string text, string series) => text.Split('\n').Where(l => l.StartsWith(series + " ", StringComparison.Ordinal))
        .Select(l => double.Parse(l[(series.Length + 1)..], CultureInfo.InvariantCulture)).FirstOrDefault();

    [GeneratedRegex("""^([a-z_][a-z0-9_]*)\{([a-z_]+="(?:[^"\\]|\\.)*"(?:,|(?=\})))*\} (?:[-+0-9.eE]+|\+Inf|NaN)$""")]
    private static partial Regex Line();

    [GeneratedRegex("_(bucket|sum|count)$")]
    private static partial Regex Suffix();

    /// <summary>Stands in for an OpenTelemetry collector: takes what is sent, and looks in it for names and ids.</summary>
    private sealed class Collector : IDisposable
    {
        private readonly HttpListener listener = new();
        private readonly List<(string Path, byte[] Body)> taken = [];

        public Collector()
        {
            Url = $"http://127.0.0.1:{Install.FreePort()}";
            listener.Prefixes.Add(Url + "/");
            listener.Start();
            _ = TakeAsync();
        }

        public string Url { get; }

        /// <summary>Whether something came of a service, with these names in it; one of 32 hex digits stands for its 16 bytes.</summary>
        public bool Has(string path, string service, params string[] names)
        {
            lock (taken)
            {
                var all = taken.Where(t => t.Path == path && Holds(t.Body, service)).ToList();
                return all.Count > 0 && names.All(name => all.Exists(t => Holds(t.Body, name)));
            }
        }

        private static bool Holds(byte[] body, string name) =>
            body.AsSpan().IndexOf(name.Length == 32 ? Convert.FromHexString(name) : Encoding.UTF8.GetBytes(name)) >= 0;

        private async Task TakeAsync()
        {
            while (listener.IsListening)
            {
                try
                {
                    var context = await listener.GetContextAsync();
                    using var body = new MemoryStream();
                    await context.Request.InputStream.CopyToAsync(body);
                    lock (taken)
                        taken.Add((context.Request.Url!.AbsolutePath, body.ToArray()));
                    context.Response.Close();
                }
                catch (Exception e) when (e is HttpListenerException or ObjectDisposedException)
                {
                    return;
                }
            }
        }

        public void Dispose() => listener.Close();
    }
}
