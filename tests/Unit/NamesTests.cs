namespace Appoxy.Tests.Unit;

public sealed class NamesTests
{
    [Theory]
    [InlineData("Shop.Example.ORG", "shop.example.org")]
    [InlineData("shop.example.org.", "shop.example.org")]
    [InlineData("bücher.example", "xn--bcher-kva.example")]
    [InlineData("BÜCHER.example", "xn--bcher-kva.example")]
    [InlineData("a-b.c1.test", "a-b.c1.test")]
    public void Hostnames_come_to_one_form(string text, string expected)
    {
        Assert.True(Names.TryNormalizeHost(text, out var host));
        Assert.Equal(expected, host);
        Assert.True(Names.TryNormalizeHost(host, out var again));
        Assert.Equal(host, again);
    }

    [Theory]
    [InlineData("")]
    [InlineData(null)]
    [InlineData("localhost")]
    [InlineData("a..b.test")]
    [InlineData("-a.test")]
    [InlineData("a-.test")]
    [InlineData("a_b.test")]
    [InlineData("a b.test")]
    [InlineData("a.test:80")]
    [InlineData("a.test/x")]
    [InlineData("a.test;return 200")]
    [InlineData("a.test\n")]
    [InlineData("10.0.0.1")]
    [InlineData("[::1]")]
    [InlineData("*.test.org")]
    [InlineData("$host.test")]
    [InlineData("\u202ea.test")]
    [InlineData("a\u200b.test")]
    [InlineData("a\ufeff.test")]
    [InlineData("a\u3000b.test")]
    public void What_is_no_hostname_is_refused(string? text) => Assert.False(Names.TryNormalizeHost(text, out _));

    [Fact]
    public void Hostnames_longer_than_DNS_allows_are_refused()
    {
        var label = new string('a', 63);
        Assert.True(Names.TryNormalizeHost($"{label}.{label}.{label}.test", out _));
        Assert.False(Names.TryNormalizeHost($"{label}.{label}.{label}.{label}.test", out _));
        Assert.False(Names.TryNormalizeHost($"{label}a.test", out _));
    }

    [Fact]
    public void Wildcards_are_taken_only_where_allowed()
    {
        Assert.True(Names.TryNormalizeHost("*.Example.org", out var host, allowWildcard: true));
        Assert.Equal("*.example.org", host);
        Assert.False(Names.TryNormalizeHost("a.*.example.org", out _, allowWildcard: true));
        Assert.False(Names.TryNormalizeHost("*", out _, allowWildcard: true));
    }

    [Fact]
    public void New_uids_are_uids()
    {
        for (var i = 0; i < 1000; i++)
            Assert.True(Names.IsUid(Names.NewUid()));
    }

    [Theory]
    [InlineData("shop", true)]
    [InlineData("my-shop-2", true)]
    [InlineData("a", false)]
    [InlineData("2shop", false)]
    [InlineData("shop-", false)]
    [InlineData("a--b", false)]
    [InlineData("Shop", false)]
    [InlineData("shop\n", false)]
    public void App_names_are_one_dns_label(string text, bool expected) => Assert.Equal(expected, Names.IsAppName(text));
}
