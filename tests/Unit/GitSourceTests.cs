using System.Net;
using Appoxy.Droidd.Builds;

namespace Appoxy.Tests.Unit;

public sealed class GitSourceTests
{
    [Theory]
    [InlineData("https://example.org/a.git", "main")]
    [InlineData("git@example.org:team/a.git", "v1.0")]
    [InlineData("ssh://git@example.org/a", "feature/x")]
    [InlineData("file:///srv/a", null)]
    [InlineData("git://127.0.0.1/a", "0123456789abcdef0123456789abcdef01234567")]
    public void Common_sources_are_taken(string url, string? reference) => Assert.Null(SourceRules.Fault(new GitSource(url, reference)));

    [Theory]
    [InlineData("ext::sh -c id", "main")]
    [InlineData("ext::id", "main")]
    [InlineData("--upload-pack=id", "main")]
    [InlineData("-oProxyCommand=id@x:y", "main")]
    [InlineData("git@x:-y", "main")]
    [InlineData("/srv/a", "main")]
    [InlineData("https://x/a", "--force")]
    [InlineData("https://x/a", "a..b")]
    [InlineData("https://x/a", "a b")]
    [InlineData("https://x/a", "refs/heads/*")]
    [InlineData("https://x/a\n", "main")]
    public void Hostile_sources_are_refused(string url, string reference) => Assert.NotNull(SourceRules.Fault(new GitSource(url, reference)));

    [Theory]
    [InlineData("127.0.0.1", true)]
    [InlineData("10.1.2.3", true)]
    [InlineData("172.16.0.1", true)]
    [InlineData("172.32.0.1", false)]
    [InlineData("192.168.1.1", true)]
    [InlineData("169.254.169.254", true)]
    [InlineData("100.64.0.1", true)]
    [InlineData("0.0.0.0", true)]
    [InlineData("::1", true)]
    [InlineData("fd00::1", true)]
    [InlineData("fe80::1", true)]
    [InlineData("::ffff:10.0.0.1", true)]
    [InlineData("8.8.8.8", false)]
    [InlineData("2001:4860:4860::8888", false)]
    public void Private_addresses_are_known(string address, bool expected) =>
        Assert.Equal(expected, GitSourceCheck.IsPrivate(IPAddress.Parse(address)));

    [Fact]
    public async Task Only_admins_deploy_from_this_machine()
    {
        await Assert.ThrowsAsync<BuildException>(() => GitSourceCheck.RequirePublicAsync("file:///srv/a", default));
        await Assert.ThrowsAsync<BuildException>(() => GitSourceCheck.RequirePublicAsync("http://127.0.0.1/a", default));
        await Assert.ThrowsAsync<BuildException>(() => GitSourceCheck.RequirePublicAsync("git@localhost:a", default));
    }
}
