using System.Net;
using System.Net.WebSockets;
using System.Security.Cryptography;
using System.Text;

namespace Appoxy.Tests.Acceptance;

[Collection(FirstLane.Name)]
public sealed class SnoozeTests(Install install) : ShopTests(install)
{
    public override async Task InitializeAsync()
    {
        await base.InitializeAsync();
        await Install.MustAsync("settings", "shop", "snooze-after=10s");
    }

    public override async Task DisposeAsync()
    {
        await Install.MustAsync("settings", "shop", "snooze-after=30m");
        await base.DisposeAsync();
    }

    private async Task<bool> IsAsync(string state) => (await Install.DroidAsync("shop")).State == state;

    private async Task<string> DockerStateAsync() =>
        (await Install.DockerAsync("inspect", "-f", "{{.State.Status}}", Shop.Uid)).Output.Trim();

    /// <summary>Sleeping at command is the same sleep as by idleness, and quicker to test.</summary>
    private async Task SnoozeAsync()
    {
        await Install.MustAsync("snooze", "shop");
        Assert.Equal("exited", await DockerStateAsync());
    }

    [Fact]
    public async Task Idle_app_is_stopped_after_ten_seconds_and_one_visit_wakes_it_with_one_start()
    {
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
        var visited = DateTimeOffset.UtcNow;
        await Install.EventuallyAsync(async () => await DockerStateAsync() == "exited", TimeSpan.FromSeconds(20));
        Assert.True(DateTimeOffset.UtcNow - visited > TimeSpan.FromSeconds(9), "it was stopped too early");
        Assert.True(await IsAsync(DroidStates.Snoozed));
        Assert.Contains("snoozed", await Install.MustAsync("ps", "shop"), StringComparison.Ordinal);

        var since = DateTimeOffset.UtcNow;
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
        Assert.Equal(1, await Shop.StartsSinceAsync(since));
        Assert.True(await IsAsync(DroidStates.Running));
    }

    [Fact]
    public async Task App_stays_awake_while_a_request_or_a_websocket_is_open()
    {
        using var socket = await ConnectAsync();
        var slow = Install.GetAsync(Shop.Host, "/slow/12000");
        var end = DateTimeOffset.UtcNow + TimeSpan.FromSeconds(14);
        while (DateTimeOffset.UtcNow < end)
        {
            Assert.Equal("running", await DockerStateAsync());
            await Task.Delay(TimeSpan.FromMilliseconds(500));
        }
        Assert.Equal(HttpStatusCode.OK, (await slow).Status);
        Assert.Equal("echo still here", await EchoAsync(socket, "still here"));
        await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, null, default);
        await Install.EventuallyAsync(async () => await DockerStateAsync() == "exited", TimeSpan.FromSeconds(20));
    }

    [Fact]
    public async Task Upload_of_five_megabytes_wakes_the_app_and_arrives_whole()
    {
        await SnoozeAsync();
        var since = DateTimeOffset.UtcNow;
        var body = RandomNumberGenerator.GetBytes(5 << 20);
        using var http = Install.Site(Shop.Host);
        using var response = await http.PostAsync("sha256", new ByteArrayContent(body));
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(body)), await response.Content.ReadAsStringAsync());
        Assert.Equal(1, await Shop.StartsSinceAsync(since));
    }

    [Fact]
    public async Task Websocket_wakes_the_app()
    {
        await SnoozeAsync();
        var since = DateTimeOffset.UtcNow;
        using var socket = await ConnectAsync();
        Assert.Equal("echo hello", await EchoAsync(socket, "hello"));
        Assert.Equal(1, await Shop.StartsSinceAsync(since));
    }

    [Fact]
    public async Task Five_hundred_visits_at_once_wake_the_app_once_and_all_are_answered()
    {
        await SnoozeAsync();
        var since = DateTimeOffset.UtcNow;
        using var http = Install.Site(Shop.Host);
        var body = RandomNumberGenerator.GetBytes(10_000);
        var hash = Convert.ToHexStringLower(SHA256.HashData(body));
        var answers = await Task.WhenAll(Enumerable.Range(0, 500).Select(async i =>
        {
            using var response = i % 5 == 0 ? await http.PostAsync("sha256", new ByteArrayContent(body)) : await http.GetAsync("");
            var text = await response.Content.ReadAsStringAsync();
            return response.StatusCode == HttpStatusCode.OK && (i % 5 == 0 ? text == hash : text.StartsWith("shop", StringComparison.Ordinal));
        }));
        Assert.Equal(500, answers.Count(right => right));
        Assert.Equal(1, await Shop.StartsSinceAsync(since));
    }

    [Fact]
    public async Task Requests_that_come_while_it_falls_asleep_are_answered()
    {
        for (var round = 0; round < 10; round++)
        {
            using var http = Install.Site(Shop.Host);
            var snooze = Install.AppoxyAsync("snooze", "shop");
            var answers = new List<Task<HttpResponseMessage>>();
            while (!snooze.IsCompleted)
            {
                answers.Add(http.GetAsync(""));
                await Task.Delay(TimeSpan.FromMilliseconds(20 + round));
            }
            foreach (var answer in await Task.WhenAll(answers))
                Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        }
    }

    [Fact]
    public async Task Paused_app_is_thawed_by_a_visit_without_a_start()
    {
        await Install.MustAsync("settings", "shop", "pause-after=2s");
        try
        {
            Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
            await Install.EventuallyAsync(async () => await DockerStateAsync() == "paused", TimeSpan.FromSeconds(8));
            var since = DateTimeOffset.UtcNow;
            Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
            Assert.Equal(0, await Shop.StartsSinceAsync(since));
        }
        finally
        {
            await Install.MustAsync("settings", "shop", "pause-after=5m");
        }
    }

    private async Task<ClientWebSocket> ConnectAsync()
    {
        var socket = new ClientWebSocket();
        socket.Options.SetRequestHeader("Host", Shop.Host);
        await socket.ConnectAsync(new Uri($"ws://127.0.0.1:{Install.HttpPort}/"), default);
        return socket;
    }

    private static async Task<string> EchoAsync(ClientWebSocket socket, string text)
    {
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        await socket.SendAsync(Encoding.UTF8.GetBytes(text), WebSocketMessageType.Text, true, timeout.Token);
        var buffer = new byte[1000];
        var read = await socket.ReceiveAsync(buffer, timeout.Token);
        return Encoding.UTF8.GetString(buffer, 0, read.Count);
    }
}
