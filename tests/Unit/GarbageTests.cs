using Appoxy.Droidd;
using Appoxy.Droidd.Builds;
using Appoxy.Droidd.Garbage;
using Appoxy.Droidd.Isolation;

namespace Appoxy.Tests.Unit;

public sealed class GarbageTests
{
    private static readonly DateTimeOffset Now = new(2026, 3, 1, 12, 0, 0, TimeSpan.Zero);

    private static Unused Of(string name, long bytes, int hours) => new(name, bytes, Now.AddHours(-hours), _ => Task.CompletedTask);

    private static string Surplus(long budget, Func<bool> isShort, params Unused[] all) =>
        string.Concat(Unused.Surplus(all, budget, Now.AddHours(-1), isShort).Select(u => u.Name));

    [Fact]
    public void Oldest_goes_first_until_the_rest_fits()
    {
        Unused[] all = [Of("a", 10, 2), Of("b", 10, 5), Of("c", 10, 3), Of("new", 100, 0)];
        Assert.Equal("", Surplus(130, () => false, all));
        Assert.Equal("b", Surplus(120, () => false, all));
        Assert.Equal("bc", Surplus(110, () => false, all));
        Assert.Equal("bca", Surplus(0, () => false, all));
    }

    [Fact]
    public void Short_disk_takes_more_until_it_is_not()
    {
        var looks = 0;
        Assert.Equal("bc", Surplus(1000, () => ++looks <= 2, Of("a", 10, 2), Of("b", 10, 5), Of("c", 10, 3)));
    }

    [Fact]
    public async Task Who_wants_to_be_alone_waits_for_builds_and_holds_up_new_ones()
    {
        var queue = new BuildQueue(2);
        var build = await queue.EnterAsync(_ => { }, default);
        Assert.Null(await queue.EnterAloneAsync(TimeSpan.Zero, default));
        var entering = queue.EnterAloneAsync(TimeSpan.FromSeconds(30), default);
        var told = new List<int>();
        var next = queue.EnterAsync(told.Add, default);
        await Task.Delay(50);
        Assert.False(entering.IsCompleted || next.IsCompleted);
        build.Dispose();
        var alone = await entering.WaitAsync(TimeSpan.FromSeconds(5));
        Assert.NotNull(alone);
        Assert.Null(await queue.EnterAloneAsync(TimeSpan.FromSeconds(1), default));
        await Task.Delay(50);
        Assert.False(next.IsCompleted);
        alone.Dispose();
        (await next.WaitAsync(TimeSpan.FromSeconds(5))).Dispose();
        Assert.Contains(0, told);
    }

    [Fact]
    public async Task Who_gives_up_being_alone_lets_builds_in()
    {
        var queue = new BuildQueue(2);
        using var build = await queue.EnterAsync(_ => { }, default);
        var entering = queue.EnterAloneAsync(TimeSpan.FromMilliseconds(200), default);
        var next = queue.EnterAsync(_ => { }, default);
        Assert.Null(await entering.WaitAsync(TimeSpan.FromSeconds(5)));
        (await next.WaitAsync(TimeSpan.FromSeconds(5))).Dispose();
    }

    [Fact]
    public void Growth_of_a_log_is_told_by_its_pieces()
    {
        var folder = Directory.CreateTempSubdirectory().FullName;
        var file = Path.Combine(folder, "x-json.log");
        var start = DateTime.UtcNow;
        void Piece(string suffix, int bytes, int full)
        {
            File.WriteAllBytes(file + suffix, new byte[bytes]);
            File.SetLastWriteTimeUtc(file + suffix, start.AddSeconds(full));
        }
        var none = LogSize.Of(file);
        Assert.True(none.IsUnchanged(file));
        Piece("", 500, 0);
        Assert.False(none.IsUnchanged(file));
        var begun = LogSize.Of(file);
        Assert.Equal(500, begun.GrownSince(none));
        // It was full, and the next one has begun.
        Piece(".1", 1000, 1);
        Piece("", 200, 1);
        var second = LogSize.Of(file);
        Assert.Equal(700, second.GrownSince(begun));
        Assert.Equal(0, second.GrownSince(second));
        // That was full, and another one.
        Piece(".2", 1000, 2);
        Piece(".1", 1000, 3);
        Piece("", 300, 3);
        Assert.Equal(2100, LogSize.Of(file).GrownSince(second));
        // Cut short by hand.
        Piece("", 0, 4);
        Assert.Equal(0, LogSize.Of(file).GrownSince(LogSize.Of(file) with { Newest = 300 }));
        Directory.Delete(folder, recursive: true);
    }

    [Theory]
    [InlineData("10%", 1000, 100)]
    [InlineData("0", 1000, 0)]
    [InlineData("6m", 1000, 6 << 20)]
    public void Pressure_is_a_share_or_a_size(string text, long total, long expected) =>
        Assert.Equal(expected, new DroiddSettings { DiskPressure = text }.DiskPressureBytes(total));

    [Theory]
    [InlineData("100%")]
    [InlineData("-1%")]
    [InlineData("x")]
    public void Pressure_that_is_none_is_refused(string text) =>
        Assert.Contains(new DroiddSettingsValidator().Validate(null, new DroiddSettings { DiskPressure = text }).Failures!,
            f => f.StartsWith("diskPressure", StringComparison.Ordinal));
}
