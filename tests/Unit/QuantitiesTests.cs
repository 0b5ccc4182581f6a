namespace Appoxy.Tests.Unit;

public sealed class QuantitiesTests
{
    [Theory]
    [InlineData("0", 0)]
    [InlineData("90", 90)]
    [InlineData("90s", 90)]
    [InlineData("5m", 300)]
    [InlineData("1h", 3600)]
    [InlineData("365d", 365 * 86400)]
    public void Durations_are_read(string text, int expected)
    {
        Assert.True(Quantities.TryParseSeconds(text, out var seconds));
        Assert.Equal(expected, seconds);
        Assert.True(Quantities.TryParseSeconds(Quantities.FormatSeconds(seconds), out var again));
        Assert.Equal(expected, again);
    }

    [Theory]
    [InlineData("")]
    [InlineData("soon")]
    [InlineData("-1s")]
    [InlineData("1.5h")]
    [InlineData("366d")]
    [InlineData("9999999999h")]
    [InlineData("5 m")]
    public void What_is_no_duration_is_refused(string text) => Assert.False(Quantities.TryParseSeconds(text, out _));

    [Theory]
    [InlineData("256m", 256L << 20)]
    [InlineData("1g", 1L << 30)]
    [InlineData("512MB", 512L << 20)]
    [InlineData("1000", 1000)]
    public void Sizes_are_read(string text, long expected)
    {
        Assert.True(Quantities.TryParseBytes(text, out var bytes));
        Assert.Equal(expected, bytes);
        Assert.True(Quantities.TryParseBytes(Quantities.FormatBytes(bytes), out var again));
        Assert.Equal(expected, again);
    }

    [Theory]
    [InlineData("lots")]
    [InlineData("-1m")]
    [InlineData("9999g")]
    [InlineData("")]
    public void What_is_no_size_is_refused(string text) => Assert.False(Quantities.TryParseBytes(text, out _));
}
