using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.WebSockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

/// <summary>
/// Visits of all kinds to an app that sleeps or just falls asleep. <c>APPOXY_TEST_REQUESTS</c> says how many come at once,
/// <c>APPOXY_TEST_SWEEP</c> how many instants of falling asleep are tried.
/// </summary>
[Collection(FirstLane.Name)]
public sealed class WakeTests(Install install) : ShopTests(install)
{
    private static readonly TimeSpan Bound = TimeSpan.FromSeconds(30);
    private static readonly int Requests = Count("APPOXY_TEST_REQUESTS", 300);
    private static readonly int Instants = Count("APPOXY_TEST_SWEEP", 3);
    private static readonly byte[] Body = RandomNumberGenerator.GetBytes(10_000);
    private static readonly string Hash = Convert.ToHexStringLower(SHA256.HashData(Body));

    public override async Task DisposeAsync()
    {
        await SetAsync("pause-after=5m", "snooze-after=30m", "wake=hold", "keep-awake=off");
        await base.DisposeAsync();
    }

    [Fact]
    public async Task Requests_of_all_kinds_at_once_wake_a_stopped_app_with_one_start()
    {
        await Install.MustAsync("snooze", "shop");
        var since = DateTimeOffset.UtcNow;
        await VisitAsync(Requests);
        Assert.Equal(1, await Shop.EventsSinceAsync("start", since));
    }

    [Fact]
    public async Task Requests_of_all_kinds_at_once_thaw_a_paused_app_without_a_start()
    {
        await PauseAsync();
        var since = DateTimeOffset.UtcNow;
        await VisitAsync(Requests);
        Assert.Equal(1, await Shop.EventsSinceAsync("unpause", since));
        Assert.Equal(0, await Shop.EventsSinceAsync("start", since));
    }

    [Theory]
    [InlineData(DroidStates.Snoozed, 400)]
    [InlineData(DroidStates.Paused, 40)]
    public async Task Request_at_any_instant_of_falling_asleep_is_answered_and_wakes_the_app_once(string state, int milliseconds)
    {
        // Long enough for a visit on a busy machine not to see it fall asleep again.
        if (state == DroidStates.Paused)
            await SetAsync("pause-after=3s");
        using var control = LocalHttp.For($"unix:{Install.Prefix}/run/appoxy/local-control.sock", TimeSpan.FromSeconds(5));
        using var http = Install.Site(Shop.Host);
        var droid = await Install.DroidAsync("shop");
        for (var instant = 0; instant < Instants; instant++)
        {
            await GetAsync(http);
            // A client may take two seconds to leave an event stream.
            await Install.EventuallyAsync(async () => (await control.GetStringAsync("activity")).Contains($"\"{droid.Live!.Address}\":0", StringComparison.Ordinal), Bound);
            var since = DateTimeOffset.UtcNow;
            var snooze = state == DroidStates.Snoozed ? Install.MustAsync("snooze", "shop") : Task.CompletedTask;
            // From the moment when nginx sends no more requests to it, in steps to beyond the one when Docker is done.
            var limit = Stopwatch.StartNew();
            while (!(await control.GetStringAsync("droids")).Contains($"{Shop.Uid} {state} ", StringComparison.Ordinal))
                Assert.True(limit.Elapsed < Bound, $"it was not {state} within {Bound}");
            await Task.Delay(instant * milliseconds / Instants);
            var visit = Stopwatch.StartNew();
            await VisitAsync(http, instant);
            Assert.True(visit.Elapsed < TimeSpan.FromSeconds(15), $"{instant}: it took {visit.Elapsed}");
            await snooze;
            Assert.Equal(1, await Shop.EventsSinceAsync(state == DroidStates.Snoozed ? "start" : "unpause", since));
        }
    }

    [Fact]
    public async Task Visitor_does_not_wait_for_a_long_request_that_keeps_an_app_from_falling_asleep()
    {
        var slow = Install.GetAsync(Shop.Host, "/slow/6000");
        await Task.Delay(TimeSpan.FromMilliseconds(500));
        var snooze = Install.AppoxyAsync("snooze", "shop");
        var visits = new List<double>();
        while (!snooze.IsCompleted)
        {
            var visit = Stopwatch.StartNew();
            Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
            visits.Add(visit.Elapsed.TotalSeconds);
            await Task.Delay(TimeSpan.FromMilliseconds(50));
        }
        Assert.False(slow.IsCompleted);
        Assert.Equal(1, (await snooze).ExitCode);
        Assert.Contains("left running", (await snooze).Error, StringComparison.Ordinal);
        Assert.InRange(visits.Max(), 0, 4);
        Assert.Equal(HttpStatusCode.OK, (await slow).Status);
    }

    [Fact]
    public async Task Browser_gets_a_page_while_a_stopped_app_starts_and_everybody_else_waits_for_it()
    {
        await SetAsync("wake=page");
        await Install.MustAsync("snooze", "shop");
        var asleep = JsonDocument.Parse(await Install.MustAsync("ps", "shop", "--json")).RootElement[0];
        Assert.InRange(asleep.GetProperty("wakesIn").GetDouble(), 0.01, 60);
        Assert.Contains("≈ ", await Install.MustAsync("ps", "shop"), StringComparison.Ordinal);
        var since = DateTimeOffset.UtcNow;
        using var http = Install.Site(Shop.Host);
        using var page = await BrowseAsync(http, HttpMethod.Get);
        var html = await page.Content.ReadAsStringAsync();
        Assert.Equal(HttpStatusCode.ServiceUnavailable, page.StatusCode);
        Assert.Equal("text/html", page.Content.Headers.ContentType?.MediaType);
        Assert.InRange(page.Headers.RetryAfter!.Delta!.Value.TotalSeconds, 1, 60);
        Assert.Contains("Waking up", html, StringComparison.Ordinal);
        Assert.Contains("usually takes about", html, StringComparison.Ordinal);
        Assert.Contains("http-equiv=\"refresh\"", html, StringComparison.Ordinal);
        Assert.False(page.Headers.Contains("X-Appoxy-Page"));

        // The others: a script, a form and a websocket, while it starts and when it has slept again.
        await VisitAsync(http, 0);
        Assert.Equal(1, await Shop.EventsSinceAsync("start", since));
        using (var awake = await BrowseAsync(http, HttpMethod.Get))
            Assert.Equal(HttpStatusCode.OK, awake.StatusCode);
        await Install.MustAsync("snooze", "shop");
        using (var form = await BrowseAsync(http, HttpMethod.Post, "sha256"))
            Assert.Equal(Hash, await form.Content.ReadAsStringAsync());
        await PauseAsync();
        using (var thawed = await BrowseAsync(http, HttpMethod.Get))
            Assert.Equal(HttpStatusCode.OK, thawed.StatusCode);
    }

    [Fact]
    public async Task App_is_awake_in_its_windows_and_sleeps_outside_of_them()
    {
        await SetAsync("keep-awake=00:00-24:00", "pause-after=1s", "snooze-after=2s");
        Assert.Contains("00:00-24:00 UTC", await Install.MustAsync("settings", "shop"), StringComparison.Ordinal);
        await Task.Delay(TimeSpan.FromSeconds(5));
        Assert.Equal("running", await DockerStateAsync());
        var day = DateTimeOffset.UtcNow.AddDays(3).ToString("ddd", CultureInfo.InvariantCulture);
        await SetAsync($"keep-awake={day} 10:00-11:00 Europe/Berlin");
        await Install.EventuallyAsync(async () => await DockerStateAsync() == "exited", TimeSpan.FromSeconds(15));
        await SetAsync("keep-awake=Mon-Fri 00:00-24:00, Sat-Sun 00:00-24:00 UTC");
        await Install.EventuallyAsync(async () => await DockerStateAsync() == "running", TimeSpan.FromSeconds(15));
        // Its owner's word goes before the window, until somebody comes.
        await Install.MustAsync("snooze", "shop");
        await Task.Delay(TimeSpan.FromSeconds(4));
        Assert.Equal("exited", await DockerStateAsync());
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
        var refused = await Install.AppoxyAsync("settings", "shop", "keep-awake=Mon-Fri 8-18");
        Assert.Equal(2, refused.ExitCode);
        Assert.Contains("Mon-Fri 08:00-18:00 Europe/Berlin", refused.Error, StringComparison.Ordinal);
    }

    private Task SetAsync(params string[] settings) => Install.MustAsync(["settings", "shop", .. settings]);

    private async Task PauseAsync()
    {
        await SetAsync("pause-after=1s");
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
        await Install.EventuallyAsync(async () => (await Install.DroidAsync("shop")).State == DroidStates.Paused, TimeSpan.FromSeconds(10));
        // So that it does not fall asleep once more while it is visited.
        await SetAsync("pause-after=5m");
    }

    private async Task<string> DockerStateAsync() =>
        (await Install.DockerAsync("inspect", "-f", "{{.State.Status}}", Shop.Uid)).Output.Trim();

    private async Task VisitAsync(int count)
    {
        using var http = Install.Site(Shop.Host);
        var faults = await Task.WhenAll(Enumerable.Range(0, count).Select(async n =>
        {
            try
            {
                await VisitAsync(http, n);
                return null;
            }
            catch (Exception e)
            {
                return $"{n}: {e.Message}";
            }
        }));
        var wrong = faults.OfType<string>().ToList();
        Assert.True(wrong.Count == 0, $"{wrong.Count} of {count} failed: {string.Join("; ", wrong.Take(5))}");
    }

    /// <summary>One visit, by turns of each kind, that is answered as it must be.</summary>
    private Task VisitAsync(HttpClient http, int turn) => (turn % 4) switch
    {
        0 => GetAsync(http),
        1 => PostAsync(http),
        2 => EchoAsync(),
        _ => ListenAsync(http),
    };

    private static async Task GetAsync(HttpClient http) => Assert.StartsWith("shop ", await http.GetStringAsync(""), StringComparison.Ordinal);

    private static async Task PostAsync(HttpClient http)
    {
        using var response = await http.PostAsync("sha256", new ByteArrayContent(Body));
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Equal(Hash, await response.Content.ReadAsStringAsync());
    }

    private async Task EchoAsync()
    {
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(90));
        using var socket = new ClientWebSocket();
        socket.Options.SetRequestHeader("Host", Shop.Host);
        await socket.ConnectAsync(new Uri($"ws://127.0.0.1:{Install.HttpPort}/"), timeout.Token);
        var buffer = new byte[100];
        foreach (var text in new[] { "one", "two" })
        {
            await socket.SendAsync(Encoding.UTF8.GetBytes(text), WebSocketMessageType.Text, true, timeout.Token);
            var read = await socket.ReceiveAsync(buffer, timeout.Token);
            Assert.Equal("echo " + text, Encoding.UTF8.GetString(buffer, 0, read.Count));
        }
        await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, null, timeout.Token);
    }

    /// <summary>The app writes an event and keeps the answer open: whoever held it back would hold it for ever.</summary>
    private static async Task ListenAsync(HttpClient http)
    {
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(90));
        using var request = new HttpRequestMessage(HttpMethod.Get, "events") { Headers = { { "Accept", "text/event-stream" } } };
        using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, timeout.Token);
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType?.MediaType);
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(timeout.Token));
        Assert.Equal("data: welcome", await reader.ReadLineAsync(timeout.Token));
    }

    private static Task<HttpResponseMessage> BrowseAsync(HttpClient http, HttpMethod method, string path = "")
    {
        var request = new HttpRequestMessage(method, path) { Content = method == HttpMethod.Post ? new ByteArrayContent(Body) : null };
        request.Headers.Add("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
        return http.SendAsync(request);
    }

    private static int Count(string variable, int otherwise) =>
        int.Parse(Environment.GetEnvironmentVariable(variable) ?? $"{otherwise}", CultureInfo.InvariantCulture);
}
