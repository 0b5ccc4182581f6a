using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using Xunit.Abstractions;

namespace Appoxy.Tests.Acceptance;

/// <summary>
/// What one app does to the others while it takes all it can. APPOXY_TEST_BOMB_SECONDS sets for how long each bomb burns (4); two
/// minutes are the full size.
/// </summary>
[Collection(Alone.Name)]
public sealed class BombTests(Install install, ITestOutputHelper output) : ShopTests(install)
{
    private static readonly TimeSpan Window = TimeSpan.FromSeconds(1);
    /// <summary>Times say something on a machine that does nothing else; without, no request of the other app may fail.</summary>
    private static readonly bool IsTimed = Environment.GetEnvironmentVariable("APPOXY_TEST_BOMB_SECONDS") is not null;
    private static readonly TimeSpan Burning = TimeSpan.FromSeconds(
        int.TryParse(Environment.GetEnvironmentVariable("APPOXY_TEST_BOMB_SECONDS"), out var seconds) ? seconds : 2);

    private readonly Tenant tenant = new(install);

    public override async Task InitializeAsync()
    {
        await base.InitializeAsync();
        await tenant.InitializeAsync();
    }

    /// <summary>A restart ends what is left of a bomb, and gives the next one a fresh container.</summary>
    private async Task RestAsync()
    {
        await Install.AppoxyAsync("restart", "tenant");
        await Install.EventuallyAsync(async () => (await Install.GetAsync(Tenant.Host)).Status == HttpStatusCode.OK, TimeSpan.FromSeconds(60));
    }

    /// <summary>The p99 of each window, in ms, of four visitors who ask the shop a hundred times a second in all.</summary>
    private async Task<List<double>> MeasureAsync(TimeSpan span)
    {
        var took = new ConcurrentBag<(double At, double Ms)>();
        var start = Stopwatch.StartNew();
        using var http = Install.Site(Shop.Host);
        await Task.WhenAll(Enumerable.Range(0, 4).Select(async i =>
        {
            while (start.Elapsed < span)
            {
                var (at, begun) = (start.Elapsed.TotalSeconds, Stopwatch.GetTimestamp());
                using var response = await http.GetAsync("");
                Assert.Equal(HttpStatusCode.OK, response.StatusCode);
                took.Add((at, Stopwatch.GetElapsedTime(begun).TotalMilliseconds));
                await Task.Delay(TimeSpan.FromMilliseconds(40));
            }
        }));
        return [.. took.GroupBy(t => (int)(t.At / Window.TotalSeconds)).OrderBy(g => g.Key).Where(g => g.Count() > 20)
            .Select(g => g.Select(t => t.Ms).Order().ElementAt((int)(g.Count() * 0.99) is var n && n < g.Count() ? n : g.Count() - 1))];
    }

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);

    /// <summary>Lights a bomb; the median of the windows' p99 before it and while it burns.</summary>
    private async Task<(double Before, double During)> BurnAsync(string bomb)
    {
        await RestAsync();
        await MeasureAsync(TimeSpan.FromSeconds(1));
        var before = await MeasureAsync(Burning);
        await tenant.AskAsync(HttpMethod.Post, "bomb/" + bomb);
        var during = await MeasureAsync(Burning);
        output.WriteLine($"{bomb}: p99 of each second, in ms: before {Text(before)}; during {Text(during)}");
        return (Median(before), Median(during));

        static string Text(List<double> values) => string.Join(' ', values.Select(v => v.ToString("0.0", System.Globalization.CultureInfo.InvariantCulture)));
    }

    [Theory]
    [InlineData("fork")]
    [InlineData("memory")]
    [InlineData("disk")]
    [InlineData("flood")]
    public async Task Bomb_in_one_app_fails_no_request_of_another_and_its_owner_is_told(string bomb)
    {
        var (before, during) = await BurnAsync(bomb);
        await Install.EventuallyAsync(async () => await IsToldAsync(bomb), TimeSpan.FromSeconds(15));
        await RestAsync();
        // A burst of other work on the machine may fall into either half: what counts is whether it is so again.
        if (IsTimed && during > 2 * before)
            (before, during) = await BurnAsync(bomb);
        await RestAsync();
        Assert.True(!IsTimed || during <= 2 * before, $"the p99 was {before:0.0} ms and became {during:0.0} ms, twice in a row");
    }

    /// <summary>Whether the owner can see what happened; a fork bomb ends at its limit, and the app may go on.</summary>
    private async Task<bool> IsToldAsync(string bomb)
    {
        var (ps, log) = (await Install.MustAsync("ps", "tenant"), await Install.MustAsync("logs", "tenant", "--tail", "200"));
        return bomb switch
        {
            "memory" => ps.Contains("memory", StringComparison.Ordinal) && log.Contains("ran out of memory", StringComparison.Ordinal),
            "flood" => ps.Contains("a second to its log", StringComparison.Ordinal) && log.Contains("may write 8m", StringComparison.Ordinal),
            "disk" => ps.Contains("may write 192m", StringComparison.Ordinal) && log.Contains("may write 192m", StringComparison.Ordinal),
            _ => true,
        };
    }

    [Fact]
    public async Task Flood_of_log_lines_fills_no_disk()
    {
        await RestAsync();
        var folder = Path.Combine(Install.Prefix, "var/lib/appoxy/docker/containers", (await Install.DroidAsync("tenant")).Live!.Container);
        await tenant.AskAsync(HttpMethod.Post, "bomb/flood");
        await Install.EventuallyAsync(async () => (await Install.DroidAsync("tenant")).State == DroidStates.Crashed, TimeSpan.FromSeconds(30));
        Assert.InRange(new DirectoryInfo(folder).EnumerateFiles("*.log*").Sum(f => f.Length), 1, 40 << 20);
        await RestAsync();
    }
}
