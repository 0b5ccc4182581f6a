using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Appoxy.Tests.Acceptance;

/// <summary>
/// Requests that a browser never sends, written byte by byte to the global nginx. Each has the one right answer, or the few that
/// RFC 9110 and 9112 leave open; none may be taken for two requests, reach another app, or go past a header that we set.
/// </summary>
[Collection(FirstLane.Name)]
public sealed partial class HostileRequestTests(Install install) : ShopTests(install)
{
    private const string Close = "Connection: close\r\n\r\n";

    /// <summary>Name, request, the status codes that are right.</summary>
    public static TheoryData<string, string, int[]> Requests
    {
        get
        {
            var data = new TheoryData<string, string, int[]>();
            void Host(string name, string host, params int[] right) => data.Add("host: " + name, $"GET / HTTP/1.1\r\nHost: {host}\r\n{Close}", right);
            void Raw(string name, string request, params int[] right) => data.Add(name, request, right);
            void Post(string name, string headers, string body, params int[] right) =>
                data.Add("body: " + name, $"POST /sha256 HTTP/1.1\r\nHost: shop.localhost\r\n{headers}Connection: close\r\n\r\n{body}", right);

            Host("as browsers send it", "shop.localhost", 200);
            Host("with a port", "shop.localhost:8080", 200);
            Host("in upper case", "SHOP.LOCALHOST", 200);
            Host("with a final dot", "shop.localhost.", 200);
            Host("with a final dot and a port", "shop.localhost.:80", 200);
            Host("empty", "", 400, 404);
            Host("with user information", "shop.localhost@evil.test", 400, 404);
            Host("with user information before it", "evil.test@shop.localhost", 400, 404);
            Host("with a space in it", "shop.localhost evil.test", 400, 404);
            Host("with a tab in it", "shop.localhost\tevil.test", 400, 404);
            Host("with a NUL in it", "shop.localhost\0.evil.test", 400);
            Host("with a path", "shop.localhost/evil", 400, 404);
            Host("with a comma", "shop.localhost, hello.localhost", 400, 404);
            Host("percent-encoded", "shop%2Elocalhost", 400, 404);
            Host("in raw UTF-8", "shöp.localhost", 400, 404);
            Host("with two dots", "shop..localhost", 400, 404);
            Host("with a leading dot", ".shop.localhost", 400, 404);
            Host("of one dot", ".", 400, 404);
            Host("with an underscore", "shop_.localhost", 404);
            Host("with nginx's words", "shop.localhost;return 200", 400, 404);
            Host("with a variable", "$uid.localhost", 400, 404);
            Host("with Lua's words", "\"..os.exit()..\"", 400, 404);
            Host("with Redis's words", "x\\r\\nFLUSHALL", 400, 404);
            Host("a wildcard", "*.localhost", 400, 404);
            Host("an IPv4 address", "127.0.0.1", 404);
            Host("an IPv6 address", "[::1]", 404);
            Host("a broken IPv6 address", "[::1", 400, 404);
            Host("longer than DNS allows", new string('a', 300) + ".localhost", 404);
            Host("longer than any header", new string('a', 20_000) + ".localhost", 400, 414, 431);
            Host("of a server that is not there", "abcdefg.ds9.localhost", 404);
            Host("of an unknown uid", "zzzzzzz.ds1.localhost", 404);
            Host("of the hook", "droidd", 404);
            Raw("no host", $"GET / HTTP/1.1\r\n{Close}", 400);
            Raw("two hosts", $"GET / HTTP/1.1\r\nHost: shop.localhost\r\nHost: hello.localhost\r\n{Close}", 400);
            Raw("two equal hosts", $"GET / HTTP/1.1\r\nHost: shop.localhost\r\nHost: shop.localhost\r\n{Close}", 400);
            Raw("no host in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", 404);
            Raw("absolute form without a host", $"GET http://shop.localhost/ HTTP/1.1\r\n{Close}", 400);
            Raw("authority form", $"GET shop.localhost:80 HTTP/1.1\r\nHost: shop.localhost\r\n{Close}", 400);
            Raw("CONNECT", $"CONNECT shop.localhost:443 HTTP/1.1\r\nHost: shop.localhost\r\n{Close}", 400, 405);
            Raw("TRACE", $"TRACE / HTTP/1.1\r\nHost: shop.localhost\r\n{Close}", 405);
            Raw("a method in lower case", $"get / HTTP/1.1\r\nHost: shop.localhost\r\n{Close}", 400);
            Raw("a method of punctuation", $"G<T / HTTP/1.1\r\nHost: shop.localhost\r\n{Close}", 400);
            Raw("HTTP/2 in the clear", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, 405, 505);
            Raw("HTTP/3.0", $"GET / HTTP/3.0\r\nHost: shop.localhost\r\n{Close}", 400, 505);
            Raw("a version of letters", $"GET / HTTP/x.y\r\nHost: shop.localhost\r\n{Close}", 400);
            Raw("no version", "GET /headers\r\n\r\n", 0, 400);
            Raw("a space in the path", $"GET /a b HTTP/1.1\r\nHost: shop.localhost\r\n{Close}", 400);
            Raw("a control character in the path", $"GET /a\u0001b HTTP/1.1\r\nHost: shop.localhost\r\n{Close}", 400);
            Raw("a NUL in the path", $"GET /a\0b HTTP/1.1\r\nHost: shop.localhost\r\n{Close}", 400);
            Raw("a path above the root", $"GET /../../etc/passwd HTTP/1.1\r\nHost: shop.localhost\r\n{Close}", 400);
            Raw("our own pages", $"GET /.appoxy/pages/404.html HTTP/1.1\r\nHost: shop.localhost\r\n{Close}", 404);
            Raw("a path longer than any header", $"GET /{new string('a', 20_000)} HTTP/1.1\r\nHost: shop.localhost\r\n{Close}", 414);
            Raw("one header too long", $"GET / HTTP/1.1\r\nHost: shop.localhost\r\nX: {new string('a', 20_000)}\r\n{Close}", 400, 431);
            Raw("too many headers",
                $"GET / HTTP/1.1\r\nHost: shop.localhost\r\n{string.Concat(Enumerable.Range(0, 200).Select(i => $"X-{i}: {new string('a', 1000)}\r\n"))}{Close}", 400, 431);
            Raw("a space before the colon", $"GET / HTTP/1.1\r\nHost : hello.localhost\r\nHost: shop.localhost\r\n{Close}", 400);
            Raw("a folded header", $"GET / HTTP/1.1\r\nHost: shop.localhost\r\nX-A: b\r\n c\r\n{Close}", 400);
            Raw("a header without a colon", $"GET / HTTP/1.1\r\nHost: shop.localhost\r\nnonsense\r\n{Close}", 200, 400);
            Raw("a NUL in a header", $"GET / HTTP/1.1\r\nHost: shop.localhost\r\nX-A: b\0c\r\n{Close}", 400);
            Raw("h2c upgrade", $"GET / HTTP/1.1\r\nHost: shop.localhost\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\r\n", 200);

            Post("with its length", "Content-Length: 5\r\n", "hello", 200);
            Post("in chunks", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", 200);
            Post("in chunks, in capitals", "Transfer-Encoding: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n", 200);
            Post("with length and chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nGET /crash HTTP/1.1\r\nHost: shop.localhost\r\n\r\n", 400);
            Post("with chunks and length", "Transfer-Encoding: chunked\r\nContent-Length: 60\r\n", "0\r\n\r\nGET /crash HTTP/1.1\r\nHost: shop.localhost\r\n\r\n", 400);
            Post("with two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n", "hello!", 400);
            Post("with two equal lengths", "Content-Length: 5\r\nContent-Length: 5\r\n", "hello", 400);
            Post("with a list of lengths", "Content-Length: 5, 5\r\n", "hello", 400);
            Post("with a signed length", "Content-Length: +5\r\n", "hello", 400);
            Post("with a negative length", "Content-Length: -5\r\n", "hello", 400);
            Post("with a length in hex", "Content-Length: 0x5\r\n", "hello", 400);
            Post("with an endless length", "Content-Length: 99999999999999999999\r\n", "hello", 400, 413);
            Post("with a length beyond the limit", "Content-Length: 999999999999\r\n", "hello", 413);
            Post("in an unknown coding", "Transfer-Encoding: xchunked\r\n", "5\r\nhello\r\n0\r\n\r\n", 400, 501);
            Post("in identity and chunks", "Transfer-Encoding: identity, chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", 400, 501);
            Post("in chunks and identity", "Transfer-Encoding: chunked, identity\r\n", "5\r\nhello\r\n0\r\n\r\n", 400, 501);
            Post("with two codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "5\r\nhello\r\n0\r\n\r\n", 400, 501);
            Post("with a vertical tab before chunked", "Transfer-Encoding: \u000bchunked\r\n", "5\r\nhello\r\n0\r\n\r\n", 400, 501);
            Post("with a space before the coding's colon", "Transfer-Encoding : chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", 400);
            Post("with a chunk that is no number", "Transfer-Encoding: chunked\r\n", "zz\r\nhello\r\n0\r\n\r\n", 400);
            Post("with an endless chunk", "Transfer-Encoding: chunked\r\n", "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n", 400, 413);
            Post("with a negative chunk", "Transfer-Encoding: chunked\r\n", "-5\r\nhello\r\n0\r\n\r\n", 400);
            Raw("chunks in HTTP/1.0", "POST /sha256 HTTP/1.0\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400, 501);
            Raw("a second request in the body of a GET",
                "GET / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 46\r\nConnection: close\r\n\r\nGET /crash HTTP/1.1\r\nHost: shop.localhost\r\n\r\n\r\n", 200);
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Requests))]
    public async Task Each_gets_its_one_right_answer(string name, string request, int[] right)
    {
        var answer = await SendAsync(request);
        var statuses = StatusLine().Matches(answer);
        Assert.True(statuses.Count <= 1, $"{name}: {statuses.Count} answers");
        var status = statuses.Count == 0 ? 0 : int.Parse(statuses[0].Groups[1].Value, System.Globalization.CultureInfo.InvariantCulture);
        Assert.True(right.Contains(status), $"{name}: {status}\n{answer[..Math.Min(400, answer.Length)]}");
        Assert.DoesNotContain("Hello from Appoxy", answer, StringComparison.Ordinal);
        Assert.Equal(System.Net.HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
    }

    [Fact]
    public async Task Address_of_an_absolute_form_wins_over_the_host()
    {
        var answer = await SendAsync($"GET http://shop.localhost/ HTTP/1.1\r\nHost: hello.localhost\r\n{Close}");
        Assert.StartsWith("HTTP/1.1 200", answer, StringComparison.Ordinal);
        Assert.Contains("shop", answer, StringComparison.Ordinal);
        Assert.DoesNotContain("Hello from Appoxy", answer, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("X-Forwarded-For", "6.6.6.6")]
    [InlineData("X-Forwarded-Host", "evil.test")]
    [InlineData("X-Forwarded-Proto", "https")]
    [InlineData("X-Forwarded-Port", "666")]
    [InlineData("X-Forwarded-Server", "evil.test")]
    [InlineData("X-Forwarded-Prefix", "/evil")]
    [InlineData("X-Real-IP", "6.6.6.6")]
    [InlineData("X-Request-Id", "evil")]
    [InlineData("X-Client-IP", "6.6.6.6")]
    [InlineData("True-Client-IP", "6.6.6.6")]
    [InlineData("Forwarded", "for=6.6.6.6")]
    [InlineData("Proxy", "http://evil.test")]
    [InlineData("x-forwarded-for", "6.6.6.6")]
    [InlineData("X_Forwarded_For", "6.6.6.6")]
    [InlineData("X_Real_IP", "6.6.6.6")]
    public async Task Forged_header_does_not_reach_the_app(string header, string value)
    {
        foreach (var connection in new[] { "close", $"close, {header}" })
        {
            var answer = await SendAsync($"GET /headers HTTP/1.1\r\nHost: shop.localhost\r\n{header}: {value}\r\nConnection: {connection}\r\n\r\n");
            Assert.StartsWith("HTTP/1.1 200", answer, StringComparison.Ordinal);
            var headers = JsonDocument.Parse(answer[answer.IndexOf('{', StringComparison.Ordinal)..(answer.LastIndexOf('}') + 1)]).RootElement;
            Assert.DoesNotContain(headers.EnumerateObject(), h => h.Value.ToString() == value);
            Assert.Equal("127.0.0.1", headers.GetProperty("x-forwarded-for").GetString());
            Assert.Equal("127.0.0.1", headers.GetProperty("x-real-ip").GetString());
            Assert.Equal("shop.localhost", headers.GetProperty("x-forwarded-host").GetString());
            Assert.Equal("shop.localhost", headers.GetProperty("host").GetString());
        }
    }

    [Theory]
    [InlineData("a b.test")]
    [InlineData("a.test\nb.test")]
    [InlineData("a.test;")]
    [InlineData("{{ 1 }}.test")]
    [InlineData("a.test } server { listen 1;")]
    [InlineData("$(id).test")]
    [InlineData("'; drop table apps; --.test")]
    [InlineData("a.test\r\nFLUSHALL")]
    [InlineData("\u202ea.test")]
    [InlineData("a\u0000.test")]
    [InlineData("*.*.test")]
    [InlineData("*")]
    [InlineData("a.*.test")]
    [InlineData("-a.test")]
    [InlineData("127.0.0.1")]
    [InlineData("localhost")]
    public async Task Hostile_hostname_through_the_api_reaches_neither_redis_nor_a_config(string hostname)
    {
        var redis = new Uri(Install.Installed("redis"));
        async Task<string> RoutesAsync() => (await Install.RunAsync("redis-cli", ["-h", redis.Host, "-p", $"{redis.Port}", "hgetall", "appoxy:routes"])).Output;
        string Configs() => string.Concat(new[] { "global", "local" }.Select(n => File.ReadAllText($"{Install.Prefix}/var/lib/appoxy/nginx/{n}/current/nginx.conf")));
        var before = (await RoutesAsync(), Configs());
        using var api = Install.Api();
        using var body = new StringContent($$"""{"hostname":{{JsonSerializer.Serialize(hostname)}}}""", Encoding.UTF8, "application/json");
        using var response = await api.PostAsync("v1/apps/shop/domains", body);
        Assert.Equal(400, (int)response.StatusCode);
        await Task.Delay(TimeSpan.FromMilliseconds(200));
        Assert.Equal(before, (await RoutesAsync(), Configs()));
    }

    /// <summary>Sends the text as UTF-8 and reads until nginx closes.</summary>
    private async Task<string> SendAsync(string request)
    {
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(20));
        using var client = new TcpClient();
        await client.ConnectAsync("127.0.0.1", Install.HttpPort, timeout.Token);
        await using var stream = client.GetStream();
        var answer = new MemoryStream();
        try
        {
            await stream.WriteAsync(Encoding.UTF8.GetBytes(request), timeout.Token);
            await stream.CopyToAsync(answer, timeout.Token);
        }
        catch (IOException)
        {
            // nginx closes on what it refuses before it has read it all; what it answered stands.
        }
        return Encoding.Latin1.GetString(answer.ToArray());
    }

    [GeneratedRegex(@"^HTTP/1\.[01] (\d{3})", RegexOptions.Multiline)]
    private static partial Regex StatusLine();
}
