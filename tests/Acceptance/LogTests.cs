using System.Globalization;
using System.Text.RegularExpressions;
using CliWrap;

namespace Appoxy.Tests.Acceptance;

/// <summary>An app's log: its own lines, the platform's and the router's.</summary>
[Collection(FirstLane.Name)]
public sealed partial class LogTests(Install install) : ShopTests(install)
{
    [Fact]
    public async Task Log_has_requests_as_router_lines_among_the_apps_own_in_order_of_time()
    {
        var mark = Guid.NewGuid().ToString("N");
        var before = DateTimeOffset.UtcNow;
        await Install.GetAsync(Shop.Host, $"/{mark}?q=%22a%22%1b[31m");
        var line = "";
        await Install.EventuallyAsync(async () =>
        {
            line = (await LogAsync("--since", "10m")).FirstOrDefault(l => l.Contains(mark, StringComparison.Ordinal) && l.Contains(" router: ", StringComparison.Ordinal)) ?? "";
            return line.Length > 0;
        }, TimeSpan.FromSeconds(10));
        Assert.True(RouterLine().IsMatch(line), line);
        Assert.Contains($"host={Shop.Host}", line, StringComparison.Ordinal);
        var all = await LogAsync();
        Assert.Equal(all.Order(StringComparer.Ordinal), all);
        Assert.Contains(all, l => l.Contains(" appoxy: ", StringComparison.Ordinal));
        Assert.Equal(3, (await LogAsync("--tail", "3")).Count);
        Assert.Equal(all.TakeLast(3), (await LogAsync("--tail", "3")).Take(3));
        var since = before.AddMilliseconds(-1).UtcDateTime.ToString("yyyy-MM-ddTHH:mm:ss.fffZ", CultureInfo.InvariantCulture);
        Assert.All(await LogAsync("--since", since), l => Assert.True(string.CompareOrdinal(l, since) >= 0, l));
        Assert.Equal(2, (await Install.AppoxyAsync("logs", "shop", "--since", "2026-13-01T00:00:00Z")).ExitCode);
        // Of another app's requests nothing shows, whatever a visitor sends.
        await Install.GetAsync("hello.localhost", $"/other{mark}?\"uid\":\"{Shop.Uid}\"");
        await Task.Delay(TimeSpan.FromSeconds(2));
        Assert.DoesNotContain(await LogAsync(), l => l.Contains("other" + mark, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Followed_log_goes_on_over_a_new_container_a_rotation_and_a_restart_of_droidd()
    {
        var lines = new List<string>();
        using var stop = new CancellationTokenSource();
        var following = Install.Command(Path.Combine(Install.Prefix, "bin/appoxy"), "logs", "shop", "-f", "--tail", "0")
            .WithValidation(CommandResultValidation.None).WithStandardOutputPipe(PipeTarget.ToDelegate(l =>
            {
                lock (lines)
                    lines.Add(l);
            })).ExecuteAsync(stop.Token);
        await Task.Delay(TimeSpan.FromSeconds(1));
        await SeenAsync("plain");
        var path = Path.Combine(Install.Prefix, "var/log/appoxy/local-access.log");
        await using (var log = new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.ReadWrite))
            log.SetLength(log.Length + (65 << 20));
        await Install.EventuallyAsync(() => Task.FromResult(new FileInfo(path) is { Exists: true, Length: < 1 << 20 }), TimeSpan.FromSeconds(15));
        await SeenAsync("rotated");
        await Install.MustAsync("env", "set", "shop", "FOLLOWED=1");
        await Install.EventuallyAsync(async () => (await Install.GetAsync(Shop.Host, "/env/FOLLOWED")).Body == "1", TimeSpan.FromSeconds(30));
        await SeenAsync("replaced");
        await Install.ServiceAsync("droidd", "down");
        await Install.EventuallyAsync(() => Task.FromResult(Has("broke off the log")), TimeSpan.FromSeconds(15));
        await Install.GetAsync(Shop.Host, "/meanwhile");
        await Install.ServiceAsync("droidd", "up");
        await SeenAsync("restarted");
        Assert.True(Has("/meanwhile"));
        lock (lines)
            Assert.Equal(lines.Count(l => l.Contains(" router: ", StringComparison.Ordinal)), lines.Where(l => l.Contains(" router: ", StringComparison.Ordinal)).Distinct().Count());
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => following.Task);
        await Install.MustAsync("env", "unset", "shop", "FOLLOWED");

        async Task SeenAsync(string what)
        {
            await Install.GetAsync(Shop.Host, "/" + what);
            await Install.EventuallyAsync(() => Task.FromResult(Has($"path=\"/{what}\"")), TimeSpan.FromSeconds(40), what);
        }

        bool Has(string text)
        {
            lock (lines)
                return lines.Exists(l => l.Contains(text, StringComparison.Ordinal));
        }
    }

    private async Task<List<string>> LogAsync(params string[] arguments) =>
        [.. (await Install.MustAsync(["logs", "shop", .. arguments])).Split('\n', StringSplitOptions.RemoveEmptyEntries)];

    [GeneratedRegex(@"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z router: at=info method=GET path=""/[0-9a-f]{32}\?q=%22a%22%1b\[31m"" host=\S+ request_id=\S+ fwd=""[0-9a-f.:]+"" status=404 service=\d+ms bytes=\d+ protocol=HTTP/1\.[01]$")]
    private static partial Regex RouterLine();
}
