using System.Diagnostics;
using Appoxy.Routerd.Placements;
using Xunit.Abstractions;

namespace Appoxy.Tests.Unit;

public sealed class PlacementTests(ITestOutputHelper output)
{
    private const double Overcommit = 10;

    private static ServerLoad Server(string name, int gigabytes = 8, bool up = true, bool draining = false, params (string, string)[] labels) =>
        new(name, (long)gigabytes << 30) { Up = up, Draining = draining, Labels = labels.ToDictionary(l => l.Item1, l => l.Item2) };

    private static AppNeeds App(long owner = 1, int megabytes = 512, string constraint = "none") =>
        new(owner, (long)megabytes << 20, Labels.Parse(constraint)!);

    private static string? Placed(AppNeeds app, params ServerLoad[] servers)
    {
        var chosen = Placement.Choose(app, servers, Overcommit);
        chosen?.Add(app.Owner, app.MemoryBytes);
        return chosen?.Name;
    }

    [Fact]
    public void An_app_goes_only_to_servers_that_are_up_not_draining_meet_its_constraints_and_have_room()
    {
        var full = Server("ds6", 1, labels: ("zone", "eu"));
        full.Add(2, 10L << 30);
        ServerLoad[] servers =
        [
            Server("ds1", 64), Server("ds2", 64, up: false, labels: ("zone", "eu")), Server("ds3", 64, draining: true, labels: ("zone", "eu")),
            Server("ds4", 64, labels: ("zone", "us")), Server("ds5", 1, labels: ("zone", "eu")), full,
        ];
        Assert.Equal("ds5", Placed(App(constraint: "zone=eu"), servers));
        Assert.Equal("ds4", Placed(App(constraint: "zone!=eu,server!=ds1"), servers));
        Assert.Equal("ds6", Placed(App(constraint: "server=ds6", megabytes: 0), servers));
        Assert.Null(Placed(App(constraint: "zone=eu", megabytes: 11 << 10), servers));
        Assert.Equal("no droid-server takes it: ds1, ds4 are not zone=eu; ds2 is down; ds3 is draining; ds5, ds6 are without room for 11g",
            Placement.WhyNot(App(constraint: "zone=eu", megabytes: 11 << 10), servers, Overcommit));
    }

    [Fact]
    public void Apps_of_one_owner_are_spread_and_a_new_server_gets_the_next_ones()
    {
        var servers = new[] { Server("ds1"), Server("ds2"), Server("ds3") };
        for (var app = 0; app < 30; app++)
            Placed(App(owner: app % 4), servers);
        Assert.All(servers, s => Assert.InRange(s.Apps, 9, 11));
        for (var owner = 0; owner < 4; owner++)
            Assert.True(servers.Max(s => s.AppsOf(owner)) - servers.Min(s => s.AppsOf(owner)) <= 1);

        ServerLoad[] more = [.. servers, Server("ds4")];
        for (var app = 0; app < 5; app++)
            Assert.Equal("ds4", Placed(App(owner: app), more));
    }

    [Fact]
    public void A_thousand_servers_take_a_hundred_thousand_apps_evenly_within_their_limits_and_fast()
    {
        var random = new Random(4711);
        int[] sizes = [8, 16, 32, 64];
        var servers = Enumerable.Range(0, 1000).Select(n => Server($"ds{n:0000}", sizes[n % 4], labels: ("zone", $"z{n % 3}"))).ToArray();
        int[] memories = [128, 256, 256, 512, 512, 512, 1024, 2048];
        var apps = Enumerable.Range(0, 100_000).Select(_ => App(owner: random.Next(2000), memories[random.Next(memories.Length)],
            random.Next(10) == 0 ? $"zone=z{random.Next(3)}" : "none")).ToArray();
        var start = Stopwatch.StartNew();
        foreach (var app in apps)
            Assert.NotNull(Placed(app, servers));
        var perApp = start.Elapsed / apps.Length;

        double Used(ServerLoad s) => 1 - Placement.FreeShare(s, 0, Overcommit);
        var (least, most) = (servers.Min(Used), servers.Max(Used));
        var ownerMost = Enumerable.Range(0, 2000).Max(o => servers.Max(s => s.AppsOf(o)));
        output.WriteLine($"100,000 apps on 1,000 servers: {start.Elapsed.TotalSeconds:0.0} s, {perApp.TotalMicroseconds:0} µs each; "
            + $"promised memory from {least:P1} to {most:P1} of each server's; at most {ownerMost} of an owner's about 50 apps on one server");
        Assert.Equal(100_000, servers.Sum(s => s.Apps));
        Assert.All(servers, s => Assert.True(s.Reserved <= s.MemoryBytes * Overcommit));
        // The largest app is 2.5 % of what the smallest server may promise.
        Assert.True(most - least <= Placement.Alike + 0.03, $"from {least:P1} to {most:P1}");
        Assert.True(ownerMost <= 2, $"{ownerMost} apps of one owner on one server");
        Assert.True(perApp < TimeSpan.FromMilliseconds(1), $"{perApp.TotalMicroseconds} µs each");

        // A server that goes away: its apps fit elsewhere, and the others are as even as before.
        var gone = servers[3];
        ServerLoad[] others = [.. servers.Where(s => s != gone)];
        foreach (var app in apps.Take(gone.Apps))
            Assert.NotNull(Placed(app, others));
        Assert.True(others.Max(Used) - others.Min(Used) <= Placement.Alike + 0.03);
    }

    [Theory]
    [InlineData("zone=eu", "zone=eu")]
    [InlineData("zone=eu, disk!=slow", "zone=eu,disk!=slow")]
    [InlineData("none", "")]
    [InlineData("zone", null)]
    [InlineData("=eu", null)]
    [InlineData("zone=", null)]
    [InlineData("zone=eu,", null)]
    [InlineData("Zone=eu", null)]
    [InlineData("zone=a b", null)]
    public void Constraints_are_read_or_refused(string text, string? read) =>
        Assert.Equal(read, Labels.Parse(text) is { } constraints ? string.Join(',', constraints) : null);
}
