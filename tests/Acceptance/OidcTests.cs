using System.Buffers.Text;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using CliWrap;

namespace Appoxy.Tests.Acceptance;

[Collection(FirstLane.Name)]
public sealed partial class OidcTests(Install install, OidcProvider provider) : IClassFixture<OidcProvider>, IAsyncLifetime
{
    private const string Verifier = "a verifier that only this test knows, and no browser";

    private static string Challenge => Base64Url.EncodeToString(SHA256.HashData(Encoding.UTF8.GetBytes(Verifier)));

    public Task InitializeAsync() => provider.StartAsync();

    public Task DisposeAsync() => install.SqlAsync("delete from users where email like '%@oidc.test'");

    [Fact]
    public async Task A_user_comes_in_by_a_verified_email_once_and_by_the_providers_subject_from_then_on()
    {
        using var nobody = new TestBrowser();
        // Not invited, and not vouched for.
        Refused(await nobody.SignInAsync(provider, "eve"), "was not invited");
        Assert.Equal("0", await install.SqlAsync("select count(*) from users where email = 'eve@oidc.test'"));
        await install.MustAsync("users", "invite", "Ann@oidc.test");
        using (var unverified = new TestBrowser())
            Refused(await unverified.SignInAsync(provider, "ann.unverified"), "email_verified");

        using var ann = new TestBrowser();
        var signedIn = await ann.SignInAsync(provider, "ann");
        Assert.Equal((HttpStatusCode.Redirect, "/"), (signedIn.Status, signedIn.Location?.ToString()));
        var account = await ann.GetAsync(new Uri(provider.Console + "/v1/account"));
        Assert.Contains("\"email\":\"Ann@oidc.test\",\"role\":\"member\"", account.Text, StringComparison.Ordinal);
        Assert.Contains("active", await install.MustAsync("users", "info", "ann@oidc.test"), StringComparison.Ordinal);
        Assert.Equal("0", await install.SqlAsync("select count(*) from invitations i join users u on u.id = i.user_id where u.email = 'Ann@oidc.test'"));
        Assert.Equal(1, (await install.AppoxyAsync("users", "invite", "ann@oidc.test")).ExitCode);

        // Her address at another account of the provider is not she.
        using (var other = new TestBrowser())
            Refused(await other.SignInAsync(provider, "ann+boss"), "belongs to another account");
        await install.SqlAsync("update users set email = 'renamed@oidc.test' where email = 'Ann@oidc.test'");
        using (var again = new TestBrowser())
            Assert.Equal(HttpStatusCode.Redirect, (await again.SignInAsync(provider, "ann")).Status);

        Assert.Contains(provider.Issuer, await install.MustAsync("users", "info", "renamed@oidc.test"), StringComparison.Ordinal);
        await install.SqlAsync("update users set email = 'ann@oidc.test' where email = 'renamed@oidc.test'");
        await install.MustAsync("users", "unlink", "ann@oidc.test");
        using (var boss = new TestBrowser())
            Assert.Equal(HttpStatusCode.Redirect, (await boss.SignInAsync(provider, "ann+boss")).Status);
        using (var first = new TestBrowser())
            Refused(await first.SignInAsync(provider, "ann"), "belongs to another account");
        await install.MustAsync("users", "unlink", "ann@oidc.test");
        await ann.SignInAsync(provider, "ann");

        await install.MustAsync("users", "disable", "ann@oidc.test");
        Assert.Equal(HttpStatusCode.Unauthorized, (await ann.GetAsync(new Uri(provider.Console + "/v1/account"))).Status);
        using (var disabled = new TestBrowser())
            Refused(await disabled.SignInAsync(provider, "ann"), "disabled");

        var audit = await install.MustAsync("audit", "--since", "5m", "--limit", "100");
        foreach (var words in new[] { $"by {provider.Issuer}, for the first time", $"by {provider.Issuer}: eve@oidc.test was not invited", "account here is disabled" })
            Assert.Contains(words, audit, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_was_not_begun_by_this_browser_or_is_not_the_providers_word_signs_nobody_in()
    {
        await install.MustAsync("users", "invite", "bob@oidc.test");
        var (faults, sessions) = (new List<string>(), await SessionsAsync());

        using var bob = new TestBrowser();
        var good = await bob.CallbackAsync(provider, "bob");
        using (var another = new TestBrowser())
            await FailsAsync("another browser's answer", another, good);
        await FailsAsync("no state", bob, new Uri(Callback, "?code=abc"));
        await FailsAsync("a made-up state", bob, new Uri(Callback, "?code=abc&state=" + new string('A', 200)));
        await FailsAsync("a state that was altered", bob, new Uri(good.ToString().Replace("state=", "state=A", StringComparison.Ordinal)));
        await FailsAsync("the state of another sign-in", bob, await SwapStateAsync(bob, good));
        await FailsAsync("a token in a link", bob, new Uri(Callback, "?id_token=abc&state=abc"));
        Assert.Equal(HttpStatusCode.Redirect, (await bob.GetAsync(good)).Status);
        var now = await SessionsAsync();
        Assert.Equal(sessions + 1, now);
        sessions = now;
        await FailsAsync("the same answer again", bob, good);

        foreach (var (claim, value) in new[] { ("nonce", "another"), ("iss", "https://elsewhere.test"), ("aud", "another client"), ("exp", "1700000000"),
            ("sub", "somebody else"), ("key", "x") })
        {
            using var browser = new TestBrowser();
            var callback = await browser.CallbackAsync(provider, "bob");
            await provider.LieAsync(claim, value);
            await FailsAsync($"another {claim}", browser, callback);
        }
        Assert.True(faults.Count == 0, string.Join('\n', faults));
        Assert.Equal(sessions, await SessionsAsync());

        async Task FailsAsync(string what, TestBrowser browser, Uri url)
        {
            var answer = await browser.GetAsync(url);
            if (answer.Status != HttpStatusCode.BadRequest || !answer.Text.Contains("Not signed in", StringComparison.Ordinal))
                faults.Add($"{what}: {answer}");
        }
    }

    [Fact]
    public async Task The_CLI_logs_in_by_a_browser_here_or_elsewhere()
    {
        await install.MustAsync("users", "invite", "cat@oidc.test");
        using var browser = new TestBrowser();
        // A code is good once, for who knows the verifier.
        var code = await CodeAsync(browser);
        Assert.Equal(HttpStatusCode.Unauthorized, await RedeemAsync(code, "a guess"));
        Assert.Equal(HttpStatusCode.Unauthorized, await RedeemAsync(code, Verifier));
        code = await CodeAsync(browser);
        Assert.Equal(HttpStatusCode.Created, await RedeemAsync(code, Verifier));
        Assert.Equal(HttpStatusCode.Unauthorized, await RedeemAsync(code, Verifier));
        code = await CodeAsync(browser);
        await install.SqlAsync("update sign_in_codes set expires_at = now()");
        Assert.Equal(HttpStatusCode.Unauthorized, await RedeemAsync(code, Verifier));

        using var home = new TemporaryFolder();
        var elsewhere = new SsoLogin(install, home.Path, "--no-browser");
        elsewhere.Code.SetResult(Shown((await browser.SignInAsync(provider, "cat", (await elsewhere.Address.Task).Query)).Text));
        Assert.Equal((0, $"logged in to {provider.Console}/ as cat@oidc.test"), (await elsewhere.Ended, elsewhere.Output.Trim()));

        var here = new SsoLogin(install, home.Path);
        var back = await browser.SignInAsync(provider, "cat", (await here.Address.Task).Query);
        Assert.Contains("You are signed in", (await browser.GetAsync(back.Location!)).Text, StringComparison.Ordinal);
        Assert.Equal(0, await here.Ended);
        Assert.Equal((await here.Address.Task).AbsoluteUri, (await File.ReadAllTextAsync(Path.Combine(home.Path, "opened"))).Trim());
        Assert.Equal("cli on " + Environment.MachineName,
            await install.SqlAsync("select t.name from tokens t join users u on u.id = t.user_id where u.email = 'cat@oidc.test' and kind = 'sign-in' and expires_at < now() + interval '91 days' order by t.id desc limit 1"));

        // Whoever may not come in is told so where the CLI waits.
        var refused = new SsoLogin(install, home.Path);
        using var eve = new TestBrowser();
        await eve.GetAsync((await eve.SignInAsync(provider, "eve", (await refused.Address.Task).Query)).Location!);
        Assert.Equal(4, await refused.Ended);
        Assert.Contains("was not invited", refused.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Who_is_let_in_and_who_is_an_admin_is_as_settings_say_and_an_absent_provider_does_no_harm()
    {
        try
        {
            await provider.SetAsync(("letIn", "@oidc.test"), ("adminClaim", "groups=appoxy-admins"), ("scopes", "openid email profile"));
            using (var boss = new TestBrowser())
                await boss.SignInAsync(provider, "dan+boss");
            using (var member = new TestBrowser())
                await member.SignInAsync(provider, "fay");
            Assert.Equal("dan@oidc.test admin,fay@oidc.test member",
                await install.SqlAsync("select string_agg(email || ' ' || role, ',' order by email) from users where email like '%@oidc.test'"));
            await install.MustAsync("users", "set-role", "fay@oidc.test", "admin");
            using (var again = new TestBrowser())
                await again.SignInAsync(provider, "fay");
            Assert.Equal("member", await install.SqlAsync("select role from users where email = 'fay@oidc.test'"));

            await provider.SetAsync(("issuer", $"http://127.0.0.1:{Install.FreePort()}"));
            using var browser = new TestBrowser();
            var away = await browser.GetAsync(new Uri(provider.Console + "/v1/oidc/sign-in"));
            Assert.True(away.Status == HttpStatusCode.ServiceUnavailable && away.Text.Contains("can't be reached", StringComparison.Ordinal), away.ToString());
            await install.MustAsync("whoami");
        }
        finally
        {
            await provider.SetAsync();
        }
    }

    private Uri Callback => new(provider.Console + "/v1/oidc/callback");

    private static void Refused((HttpStatusCode Status, string Text, Uri? Location) answer, string words) =>
        Assert.True(answer.Status == HttpStatusCode.Forbidden && WebUtility.HtmlDecode(answer.Text).Contains(words, StringComparison.Ordinal), answer.ToString());

    /// <summary>The code of one sign-in with the state of the next.</summary>
    private async Task<Uri> SwapStateAsync(TestBrowser browser, Uri good)
    {
        var next = await browser.CallbackAsync(provider, "bob");
        return new Uri(Callback, "?" + CodeOf().Match(good.Query).Value + "&" + StateOf().Match(next.Query).Value);
    }

    private async Task<string> CodeAsync(TestBrowser browser) => Shown((await browser.SignInAsync(provider, "cat", "?challenge=" + Challenge)).Text);

    private static string Shown(string page) => ShownCode().Match(page).Value is { Length: > 0 } code ? code : throw new Xunit.Sdk.XunitException(page);

    private async Task<HttpStatusCode> RedeemAsync(string code, string verifier) =>
        (await new Member(install, "", "").SendAsync(HttpMethod.Post, "v1/tokens", JsonSerializer.Serialize(new { code, verifier }))).Status;

    private async Task<int> SessionsAsync() => int.Parse(await install.SqlAsync("select count(*) from tokens where kind <> 'token'"));

    [GeneratedRegex("sic_[A-Za-z0-9]{40}")]
    private static partial Regex ShownCode();

    [GeneratedRegex("code=[^&]*")]
    private static partial Regex CodeOf();

    [GeneratedRegex("state=[^&]*")]
    private static partial Regex StateOf();

    /// <summary><c>appoxy login --sso</c> under way.</summary>
    private sealed class SsoLogin
    {
        private readonly StringBuilder output = new(), error = new();

        public SsoLogin(Install install, string home, params string[] options)
        {
            var opener = Path.Combine(home, "xdg-open");
            File.WriteAllText(opener, $"#!/bin/sh\necho \"$1\" >{home}/opened\n");
            File.SetUnixFileMode(opener, UnixFileMode.UserRead | UnixFileMode.UserExecute);
            Ended = RunAsync(CliWrap.Cli.Wrap($"{install.Prefix}/bin/appoxy")
                .WithArguments(["login", "--sso", $"http://127.0.0.1:{install.ConsolePort}", .. options])
                .WithEnvironmentVariables(e => e.Set("HOME", home).Set("XDG_CONFIG_HOME", null).Set("APPOXY_URL", null).Set("APPOXY_TOKEN", null).Set("DISPLAY", ":9")
                    .Set("PATH", home + ":" + Environment.GetEnvironmentVariable("PATH")))
                .WithStandardInputPipe(PipeSource.Create(async (input, cancel) =>
                {
                    if (options.Length > 0)
                        await input.WriteAsync(Encoding.UTF8.GetBytes(await Code.Task + "\n"), cancel);
                }))
                .WithStandardOutputPipe(PipeTarget.ToStringBuilder(output))
                .WithStandardErrorPipe(PipeTarget.ToDelegate(line =>
                {
                    error.AppendLine(line);
                    if (line.StartsWith("http", StringComparison.Ordinal))
                        Address.TrySetResult(new Uri(line));
                }))
                .WithValidation(CommandResultValidation.None));
        }

        public TaskCompletionSource<Uri> Address { get; } = new();

        public TaskCompletionSource<string> Code { get; } = new();

        public Task<int> Ended { get; }

        public string Output => output.ToString();

        public string Error => error.ToString();

        private async Task<int> RunAsync(Command command)
        {
            using var bound = new CancellationTokenSource(TimeSpan.FromSeconds(60));
            var ran = await command.ExecuteAsync(bound.Token);
            Address.TrySetException(new Xunit.Sdk.XunitException($"exit {ran.ExitCode}: {output} {error}"));
            return ran.ExitCode;
        }
    }

    private sealed class TemporaryFolder : IDisposable
    {
        public string Path { get; } = Directory.CreateTempSubdirectory("appoxy-home-").FullName;

        public void Dispose() => Directory.Delete(Path, recursive: true);
    }
}
