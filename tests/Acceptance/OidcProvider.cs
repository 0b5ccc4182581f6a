using System.Net;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Appoxy.Tests;

/// <summary>
/// A real OpenID Connect provider on this machine (npm's oidc-provider, in tests/oidc), which an install's routerd is told to sign users in by.
/// </summary>
public sealed class OidcProvider(Install install) : IAsyncLifetime
{
    private const string Image = "appoxy-test/oidc";
    private readonly string container = "appoxy-test-oidc-" + Path.GetRandomFileName()[..6];
    private readonly int port = Install.FreePort();

    public string Issuer => $"http://127.0.0.1:{port}";

    public string Console { get; } = $"http://127.0.0.1:{install.ConsolePort}";

    private string Settings => Path.Combine(install.Prefix, "etc/appoxy/routerd.local.json");

    public async Task InitializeAsync()
    {
        await File.WriteAllTextAsync(Path.Combine(install.Prefix, "etc/appoxy/oidc.secret"), "secret of the test\n");
        await SetAsync();
        // routerd is there before it is.
        await MustAsync("build", "-q", "--network", "droid-build", "-t", Image, Path.Combine(install.Repository, "tests/oidc"));
    }

    /// <summary>Restarts routerd with other settings of its section <c>oidc</c>.</summary>
    public async Task SetAsync(params (string Name, string Value)[] others)
    {
        var oidc = new JsonObject
        {
            ["issuer"] = Issuer, ["clientId"] = "appoxy", ["clientSecretFile"] = Path.Combine(install.Prefix, "etc/appoxy/oidc.secret"),
        };
        foreach (var (name, value) in others)
            oidc[name] = value;
        await File.WriteAllTextAsync(Settings, new JsonObject { ["oidc"] = oidc }.ToJsonString());
        await RestartAsync();
    }

    public async Task StartAsync()
    {
        if ((await install.DockerAsync("ps", "-q", "--filter", "name=" + container)).Output.Trim().Length > 0)
            return;
        await MustAsync("run", "-d", "--rm", "--init", "--name", container, "--network", "host", "-e", $"PORT={port}",
            "-e", $"REDIRECTS={Console}/v1/oidc/callback http://console.localhost:{install.HttpPort}/v1/oidc/callback", Image);
        using var http = LocalHttp.For(Issuer, TimeSpan.FromSeconds(5));
        await Install.EventuallyAsync(async () =>
        {
            try
            {
                return (await http.GetAsync(".well-known/openid-configuration")).IsSuccessStatusCode;
            }
            catch (HttpRequestException)
            {
                return false;
            }
        }, TimeSpan.FromSeconds(20));
    }

    /// <summary>Has it lie in the next id token.</summary>
    public async Task LieAsync(string claim, string value)
    {
        using var http = LocalHttp.For(Issuer, TimeSpan.FromSeconds(5));
        (await http.PutAsync($"lie/{claim}/{Uri.EscapeDataString(value)}", null)).EnsureSuccessStatusCode();
    }

    public async Task DisposeAsync()
    {
        File.Delete(Settings);
        await install.DockerAsync("rm", "-f", container);
        await RestartAsync();
        await install.SqlAsync("delete from users where email like '%@oidc.test'");
    }

    private async Task RestartAsync()
    {
        await install.RestartAsync("routerd");
        using var http = LocalHttp.For(Console, TimeSpan.FromSeconds(5));
        await Install.EventuallyAsync(async () =>
        {
            try
            {
                return (await http.GetAsync("readyz")).IsSuccessStatusCode;
            }
            catch (HttpRequestException)
            {
                return false;
            }
        }, TimeSpan.FromSeconds(30));
    }

    private async Task MustAsync(params string[] arguments)
    {
        var ran = await install.DockerAsync(arguments);
        Assert.True(ran.ExitCode == 0, ran.ToString());
    }
}

/// <summary>A browser, which keeps cookies, follows links, and fills in the provider's forms.</summary>
internal sealed partial class TestBrowser : IDisposable
{
    private readonly CookieContainer cookies = new();
    private readonly HttpClient http;

    public TestBrowser() => http = new HttpClient(new HttpClientHandler { AllowAutoRedirect = false, CookieContainer = cookies, UseProxy = false });

    public string? Cookie(string url, string name) => cookies.GetCookies(new Uri(url))[name]?.Value;

    /// <summary>Begins a sign-in and logs in at the provider; where that sends the browser then, which has not gone there yet.</summary>
    public async Task<Uri> CallbackAsync(OidcProvider provider, string login, string query = "")
    {
        var at = new Uri($"{provider.Console}/v1/oidc/sign-in{query}");
        for (var steps = 0; steps < 20; steps++)
        {
            if (at.AbsolutePath == "/v1/oidc/callback")
                return at;
            using var page = await http.GetAsync(at);
            if (page.Headers.Location is { } next)
            {
                at = new Uri(at, next);
                continue;
            }
            var html = await page.Content.ReadAsStringAsync();
            Assert.True(page.StatusCode == HttpStatusCode.OK && Action().Match(html) is { Success: true }, $"{at}: {page.StatusCode} {html}");
            var form = html.Contains("name=\"login\"", StringComparison.Ordinal)
                ? new Dictionary<string, string> { ["prompt"] = "login", ["login"] = login, ["password"] = "any" } : new() { ["prompt"] = "consent" };
            using var sent = await http.PostAsync(new Uri(at, Action().Match(html).Groups[1].Value), new FormUrlEncodedContent(form));
            at = new Uri(at, sent.Headers.Location!);
        }
        throw new Xunit.Sdk.XunitException($"{login} does not get through the provider");
    }

    public async Task<(HttpStatusCode Status, string Text, Uri? Location)> GetAsync(Uri url)
    {
        using var answer = await http.GetAsync(url);
        return (answer.StatusCode, await answer.Content.ReadAsStringAsync(), answer.Headers.Location);
    }

    /// <summary>The whole way.</summary>
    public async Task<(HttpStatusCode Status, string Text, Uri? Location)> SignInAsync(OidcProvider provider, string login, string query = "") =>
        await GetAsync(await CallbackAsync(provider, login, query));

    public void Dispose() => http.Dispose();

    [GeneratedRegex("action=\"([^\"]*/interaction/[^\"]*)\"")]
    private static partial Regex Action();
}
