using System.Diagnostics;
using System.Globalization;
using System.Net.Http.Json;
using System.Net.WebSockets;
using System.Text;
using Xunit.Abstractions;

namespace Appoxy.Tests.Acceptance;

/// <summary>
/// Templates activated and nginxes reloaded over and over while visitors come and websockets are open. <c>APPOXY_TEST_ACTIVATIONS</c>
/// says how often; few in the suite, and <c>tests/bench/run.sh reloads</c> does 1,000.
/// </summary>
[Collection(FirstLane.Name)]
public sealed class ReloadTests(Install install, ITestOutputHelper output) : ShopTests(install)
{
    private const int Sockets = 21;
    private static readonly int Activations =
        int.Parse(Environment.GetEnvironmentVariable("APPOXY_TEST_ACTIVATIONS") ?? "40", CultureInfo.InvariantCulture);

    private static readonly string[] Templates = ["global.conf.sbn", "local.conf.sbn"];
    private readonly Dictionary<string, string> shipped = [];
    private readonly Dictionary<string, string> serving = [];

    public override async Task InitializeAsync()
    {
        await base.InitializeAsync();
        foreach (var template in Templates)
            shipped[template] = await File.ReadAllTextAsync(Path.Combine(Install.Prefix, "usr/share/appoxy/templates", template));
    }

    public override async Task DisposeAsync()
    {
        using var api = Install.Api();
        foreach (var template in Templates)
            (await api.DeleteAsync($"v1/templates/{template}")).EnsureSuccessStatusCode();
        await base.DisposeAsync();
    }

    [Fact]
    public async Task Activations_and_forced_reloads_fail_no_request_end_no_websocket_and_let_no_bad_template_through()
    {
        foreach (var template in Templates)
            serving[template] = await ServingAsync(template);
        var sockets = new List<ClientWebSocket> { await ConnectAsync() };
        var before = Footprint();
        await using var fresh = new Load(Install, Shop.Host, fresh: true);
        await using var kept = new Load(Install, Shop.Host, reloads: true);
        var clock = Stopwatch.StartNew();
        using var end = new CancellationTokenSource();
        var reloads = ReloadAsync(end.Token);
        using var api = Install.Api();
        var (times, most) = (new List<double>(), before);
        for (var i = 0; i < Activations; i++)
        {
            var begun = clock.Elapsed;
            await ActivateAsync(api, i);
            times.Add((clock.Elapsed - begun).TotalMilliseconds);
            if (sockets.Count < Sockets && i * (Sockets - 1) / Activations >= sockets.Count - 1)
                sockets.Add(await ConnectAsync());
            // The first one is older than all reloads; the others must outlive those that follow them.
            Assert.Equal($"echo {i}", await EchoAsync(sockets[i % sockets.Count], $"{i}"));
            var now = Footprint();
            most = (Math.Max(most.Workers, now.Workers), Math.Max(most.Mebibytes, now.Mebibytes));
        }
        await end.CancelAsync();
        var forced = await reloads;
        Assert.Equal(Sockets, sockets.Count);
        foreach (var socket in sockets)
            Assert.Equal("echo still here", await EchoAsync(socket, "still here"));
        await fresh.EndAsync(atLeast: 5 * Activations);
        await kept.EndAsync(atLeast: 5 * Activations);
        var after = Footprint();
        times.Sort();
        output.WriteLine($"{Activations} activations, {forced} forced reloads of each nginx in {clock.Elapsed.TotalSeconds:0} s; "
            + $"an activation took {times[times.Count / 2]:0} ms, at most {times[^1]:0} ms; {fresh.Requests} requests on connections of "
            + $"their own and {kept.Requests} on kept ones, 0 failed; {sockets.Count} websockets alive; both nginxes' workers: {before.Workers} with "
            + $"{before.Mebibytes} MiB before, {most.Workers} with {most.Mebibytes} MiB at most, {after.Workers} with {after.Mebibytes} MiB at the end");
        // A websocket holds one old worker of each nginx, and no more than that.
        Assert.True(after.Workers <= before.Workers + (2 * Sockets) + 8, $"{after.Workers} workers");
        foreach (var socket in sockets)
        {
            await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, null, default);
            socket.Dispose();
        }
        await Install.EventuallyAsync(() => Task.FromResult(Footprint().Workers <= before.Workers), TimeSpan.FromSeconds(20));
    }

    /// <summary>Good texts and bad ones in turn, for both nginxes: the good one serves when it is answered, the bad one never.</summary>
    private async Task ActivateAsync(HttpClient api, int i)
    {
        var template = Templates[i % 2];
        var (good, text, words) = (i / 2 % 6) switch
        {
            0 or 2 or 4 => (true, shipped[template], ""),
            1 => (false, shipped[template] + "{{ no_such_member }}", "no_such_member"),
            3 => (false, Before(template, "  server {\n", "  no_such_directive on;\n"), "unknown directive"),
            _ when i / 12 % 2 == 0 => (false, shipped[template].Replace("known()", "knwon()", StringComparison.Ordinal)
                .Replace("enter()", "entre()", StringComparison.Ordinal), "attempt to call field"),
            // Seen by nobody but the probe, and only where it serves: this one is switched to and rolled back.
            _ => (false, Before(template, "    large_client_header_buffers",
                "{{ if !nginx.test_port }}    if ($host = \"probe.invalid\") { return 500; }\n{{ end }}"), "with 500"),
        };
        Assert.NotEqual(good, text != shipped[template]);
        using var answer = await api.PostAsJsonAsync($"v1/templates/{template}/activate", new { text = $"{text}# number {i}\n" });
        var said = await answer.Content.ReadAsStringAsync();
        Assert.True((int)answer.StatusCode == (good ? 200 : 422), $"{i}: {(int)answer.StatusCode} {said}");
        Assert.Contains(words, said, StringComparison.Ordinal);
        var now = await ServingAsync(template);
        if (good)
            Assert.Contains($"# number {i}\n", now, StringComparison.Ordinal);
        else
            Assert.Equal(serving[template], now);
        serving[template] = now;
    }

    private string Before(string template, string part, string added)
    {
        var at = shipped[template].IndexOf(part, StringComparison.Ordinal);
        Assert.True(at > 0, $"{template} has no '{part}'");
        return shipped[template].Insert(at, added);
    }

    private async Task<string> ServingAsync(string template) => await File.ReadAllTextAsync(
        Path.Combine(Install.Prefix, "var/lib/appoxy/nginx", template.Split('.')[0], "current/nginx.conf"));

    /// <summary>Reloads both nginxes, whatever else happens; how often.</summary>
    private async Task<int> ReloadAsync(CancellationToken end)
    {
        var count = 0;
        for (; !end.IsCancellationRequested; count++)
        {
            foreach (var nginx in new[] { "global-nginx", "local-nginx" })
                Assert.Equal(0, (await Install.RunAsync("kill", ["-HUP", $"{Install.ServicePid(nginx)}"])).ExitCode);
            await Task.Delay(TimeSpan.FromMilliseconds(250), end).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
        return count;
    }

    /// <summary>How many workers the two nginxes have, old ones too, and what memory is theirs: shared pages count for each in part.</summary>
    private (int Workers, int Mebibytes) Footprint()
    {
        var (workers, bytes) = (0, 0L);
        foreach (var pid in new[] { "global-nginx", "local-nginx" }.Select(Install.ServicePid)
                     .SelectMany(master => File.ReadAllText($"/proc/{master}/task/{master}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries)))
        {
            try
            {
                var line = File.ReadLines($"/proc/{pid}/smaps_rollup").First(l => l.StartsWith("Pss:", StringComparison.Ordinal));
                bytes += 1024 * long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
                workers++;
            }
            catch (Exception e) when (e is IOException or InvalidOperationException)
            {
                // Ended meanwhile.
            }
        }
        return (workers, (int)(bytes >> 20));
    }

    private async Task<ClientWebSocket> ConnectAsync()
    {
        var socket = new ClientWebSocket();
        socket.Options.SetRequestHeader("Host", Shop.Host);
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        await socket.ConnectAsync(new Uri($"ws://127.0.0.1:{Install.HttpPort}/"), timeout.Token);
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
