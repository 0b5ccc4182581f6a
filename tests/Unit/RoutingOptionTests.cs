using Appoxy.Routerd;
using Appoxy.Routerd.Routing;

namespace Appoxy.Tests.Unit;

public sealed class RoutingOptionTests
{
    private static readonly Dictionary<string, RoutingOption> Rules = RoutingOption.All.ToDictionary(o => o.Name);

    [Theory]
    [InlineData("force-https", "on", "on")]
    [InlineData("force-https", "yes", null)]
    [InlineData("www", "to-apex", "to-apex")]
    [InlineData("www", "apex", null)]
    [InlineData("auth", "alice, bob", "alice,bob")]
    [InlineData("auth", "alice,alice", null)]
    [InlineData("auth", "al:ice", null)]
    [InlineData("auth", "al\nice", null)]
    [InlineData("auth", "alice,off", null)]
    [InlineData("auth", "", null)]
    [InlineData("allow-ips", "10.1.2.3/8, 2001:DB8::1", "10.0.0.0/8,2001:db8::1/128")]
    [InlineData("allow-ips", "10.0.0.0/8,10.9.9.9/8", "10.0.0.0/8")]
    [InlineData("allow-ips", "10.0.0.0/33", null)]
    [InlineData("allow-ips", "10.0.0/8", null)]
    [InlineData("allow-ips", "010.0.0.1", null)]
    [InlineData("allow-ips", "::ffff:10.0.0.1/104", null)]
    [InlineData("allow-ips", "fe80::1%eth0", null)]
    [InlineData("allow-ips", "10.0.0.0/8;deny all", null)]
    [InlineData("allow-ips", "", null)]
    [InlineData("max-body", "10M", "10m")]
    [InlineData("max-body", "0", null)]
    [InlineData("max-body", "-1", null)]
    [InlineData("read-timeout", "90s", "90s")]
    [InlineData("read-timeout", "0", null)]
    [InlineData("read-timeout", "2h", null)]
    [InlineData("rate-limit", "10r/s", "10r/s,burst=10")]
    [InlineData("rate-limit", "300r/m", "300r/m,burst=5")]
    [InlineData("rate-limit", "30r/m,burst=0", "30r/m,burst=0")]
    [InlineData("rate-limit", "0r/s", null)]
    [InlineData("rate-limit", "10/s", null)]
    [InlineData("rate-limit", "10r/s\n", null)]
    [InlineData("canary", "shop-next:10", "shop-next:10")]
    [InlineData("canary", "shop-next:0", null)]
    [InlineData("canary", "shop-next:101", null)]
    [InlineData("canary", "shop next:10", null)]
    [InlineData("canary", "shop:10:20", null)]
    [InlineData("error-page", "<h1>Sorry</h1>", "<h1>Sorry</h1>")]
    [InlineData("error-page", " ", null)]
    [InlineData("error-page", "a\0b", null)]
    public void Value_is_brought_to_its_one_form_or_refused(string option, string value, string? normal) =>
        Assert.Equal(normal, Rules[option].Normalize(value));

    [Fact]
    public void Page_of_more_than_32_kB_of_UTF8_or_with_half_a_character_is_refused()
    {
        Assert.Null(Rules["error-page"].Normalize("a\ud800b"));
        Assert.NotNull(Rules["error-page"].Normalize("a\ud83d\ude00b"));
        Assert.NotNull(Rules["error-page"].Normalize(new string('a', RoutingOption.MaxPage)));
        Assert.Null(Rules["error-page"].Normalize(new string('a', RoutingOption.MaxPage + 1)));
        Assert.Null(Rules["error-page"].Normalize(new string('ä', (RoutingOption.MaxPage / 2) + 1)));
    }

    [Theory]
    [InlineData("X-Frame-Options", "DENY", true)]
    [InlineData("Strict-Transport-Security", "max-age=63072000; includeSubDomains", true)]
    [InlineData("Content-Security-Policy", "default-src 'self'", true)]
    [InlineData("X-A", "a\r\nSet-Cookie: b=c", false)]
    [InlineData("X-A", "a\nb", false)]
    [InlineData("X-A", "ä", false)]
    [InlineData("X-A\r\nX-B", "a", false)]
    [InlineData("X A", "a", false)]
    [InlineData("X_A", "a", false)]
    [InlineData("", "a", false)]
    [InlineData("Content-Length", "5", false)]
    [InlineData("transfer-encoding", "chunked", false)]
    [InlineData("Connection", "close", false)]
    [InlineData("Set-Cookie", "a=b", false)]
    [InlineData("x-accel-redirect", "/", false)]
    [InlineData("X-Appoxy-Page", "own", false)]
    public void Response_header_that_could_break_an_answer_is_refused(string name, string value, bool right) =>
        Assert.Equal(right, RoutingOption.HeaderFault(name, value) is null);

    [Fact]
    public async Task Change_keeps_what_it_does_not_name_and_off_clears()
    {
        var stored = await ChangeAsync(new StoredRouting(), new AppRouting
        {
            ForceHttps = "on", MaxBody = "1m", Auth = "alice", Passwords = new() { ["alice"] = "a long one" },
            ResponseHeaders = new() { ["X-A"] = "1", ["X-B"] = "2" },
        });
        var hash = stored.Auth!["alice"];
        Assert.StartsWith("pbkdf2-sha256$", hash, StringComparison.Ordinal);
        stored = await ChangeAsync(stored, new AppRouting { MaxBody = "off", ResponseHeaders = new() { ["x-a"] = "", ["X-C"] = "3" } });
        Assert.True(stored.Https);
        Assert.Null(stored.MaxBody);
        Assert.Equal(["X-B", "X-C"], stored.Headers!.Keys);
        stored = await ChangeAsync(stored, new AppRouting { Auth = "bob,alice", Passwords = new() { ["bob"] = "another one" } });
        Assert.Equal(hash, stored.Auth!["alice"]);
        Assert.Equal("alice,bob", stored.Show().Auth);
        Assert.Null(stored.Show().Passwords);
        stored = await ChangeAsync(stored, stored.Show() with { ForceHttps = "off", Auth = "off", ResponseHeaders = new() { ["X-B"] = "", ["X-C"] = "" } });
        Assert.Equal(new StoredRouting(), stored);
    }

    [Fact]
    public async Task Change_at_fault_names_every_member_and_no_password()
    {
        var fault = await Assert.ThrowsAsync<Problem>(() => ChangeAsync(new StoredRouting(), new AppRouting
        {
            ForceHttps = "perhaps", AllowIps = "everywhere", MaxBody = "2g", Auth = "alice,bob",
            ResponseHeaders = new() { ["Connection"] = "close" },
        }));
        Assert.All(["forceHttps is 'perhaps'", "allowIps", "maxBody", "responseHeaders"], m => Assert.Contains(m, fault.Message, StringComparison.Ordinal));
        fault = await Assert.ThrowsAsync<Problem>(() => ChangeAsync(new StoredRouting(), new AppRouting
        {
            Auth = "alice,bob", Passwords = new() { ["alice"] = "short", ["carol"] = "long enough" },
        }));
        Assert.All(["bob has no password", "alice: a password has", "'carol' is none"], m => Assert.Contains(m, fault.Message, StringComparison.Ordinal));
        Assert.DoesNotContain("short", fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Headers_that_are_replaced_without_a_trusted_proxy_are_replaced_behind_one_too()
    {
        string[] Names(string file) => [.. File.ReadLines(Path.Combine(Repository(), "nginx", file))
            .Where(l => l.StartsWith("proxy_set_header", StringComparison.Ordinal)).Select(l => l.Split(' ')[1])];
        Assert.Equal(Names("forwarded.conf"), Names("forwarded-behind-proxy.conf"));
        Assert.Contains("X-Forwarded-For", Names("forwarded.conf"));
    }

    private static Task<StoredRouting> ChangeAsync(StoredRouting stored, AppRouting change) =>
        RoutingChange.ApplyAsync(stored, change, 100 << 20, _ => throw new InvalidOperationException("no canary was given"));

    private static string Repository([System.Runtime.CompilerServices.CallerFilePath] string path = "") =>
        Path.GetFullPath(Path.Combine(Path.GetDirectoryName(path)!, "../.."));
}
