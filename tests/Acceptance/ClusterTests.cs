using System.Globalization;
using System.Net;
using Appoxy.Cluster;

namespace Appoxy.Tests;

/// <summary>The install with a second machine, which has joined it and runs the app <c>faraway</c>.</summary>
public sealed class TwoMachines(Install install) : IAsyncLifetime
{
    private Cluster? cluster;

    internal Cluster Cluster => cluster!;

    internal Machine Other { get; private set; } = null!;

    /// <summary>The token by which it joined.</summary>
    public IssuedJoinToken Token { get; private set; } = null!;

    public async Task InitializeAsync()
    {
        cluster = await Cluster.OpenAsync(install);
        Token = await cluster.TokenAsync();
        Other = await cluster.MachineAsync();
        var ran = await Other.ProvisionAsync("--role", "droid-server", "--join", Token.Token, "--address", Other.Address);
        Assert.True(ran.ExitCode == 0, ran.ToString());
        Assert.Contains($"{Token.Name} has joined", ran.Output, StringComparison.Ordinal);
        var app = new Folder(install, "../../droidd/sample/hello", "faraway");
        await install.RunAsync("cp", [$"{install.Prefix}/var/lib/appoxy/sample/hello/busybox", app.Path]);
        await install.MustAsync("apps", "create", "faraway", "--server", Token.Name);
        await install.MustAsync("deploy", "faraway", app.Path);
    }

    public async Task DisposeAsync()
    {
        await install.AppoxyAsync("apps", "destroy", "faraway", "--confirm", "faraway");
        await Install.EventuallyAsync(async () => (await install.AppoxyAsync("servers", "remove", Token.Name)).ExitCode is 0 or 3, TimeSpan.FromSeconds(30));
        if (cluster is not null)
            await cluster.DisposeAsync();
    }
}

[Collection(ThirdLane.Name)]
public sealed class ClusterTests(Install install, TwoMachines machines) : IClassFixture<TwoMachines>
{
    private const string Host = "faraway.localhost";
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(30);

    private string Joined => machines.Token.Name;

    private string Heartbeats => $"https://{machines.Cluster.Address}:{machines.Cluster.Port}/cluster/heartbeat";

    private string Droidd => $"https://{machines.Other.Address}:8444/server";

    private string Nginx => $"https://{machines.Other.Address}:8445/";

    private string RouterdLog => File.ReadAllText($"{install.Prefix}/var/log/appoxy/routerd/current");

    [Fact]
    public async Task App_on_a_machine_that_joined_is_visited_through_the_control_machines_nginx()
    {
        var (status, body, _) = await install.GetAsync(Host);
        Assert.Equal(HttpStatusCode.OK, status);
        Assert.Contains("<!doctype html>", body, StringComparison.Ordinal);
        var droid = await install.DroidAsync("faraway");
        var containers = await install.RunAsync("docker", ["-H", machines.Other.Docker, "ps", "--no-trunc", "-q"]);
        Assert.Contains(droid.Live!.Container, containers.Output, StringComparison.Ordinal);
        var list = await install.MustAsync("servers", "list");
        Assert.Matches($@"(?m)^{Joined}\s+up\s+1\s", list);
        Assert.Matches(@"(?m)^certificate ends\s+in \d+d$", await install.MustAsync("servers", "info", Joined));
        // A second run changes nothing, and needs no token.
        var again = await machines.Other.ProvisionAsync("--role", "droid-server");
        Assert.True(again.ExitCode == 0, again.ToString());
        Assert.DoesNotContain("starting", again.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Droid_reaches_neither_the_ports_of_its_machine_nor_those_of_others()
    {
        const int NotConnected = 7;
        var container = (await install.DroidAsync("faraway")).Live!.Container;
        var pid = (await install.RunAsync("docker", ["-H", machines.Other.Docker, "inspect", "-f", "{{.State.Pid}}", container])).Output.Trim();
        foreach (var target in new[] { $"{machines.Cluster.Address}:{machines.Cluster.Port}", $"{machines.Other.Address}:8444", $"{machines.Other.Address}:8445" })
        {
            string[] curl = ["curl", "-sSk", "--noproxy", "*", "-m", "5", "https://" + target];
            var fromDroid = await install.RunAsync("nsenter", ["-t", pid, "-n", .. curl]);
            Assert.True(fromDroid.ExitCode == NotConnected, $"{target}: {fromDroid}");
            var fromMachine = await machines.Other.RunAsync(curl);
            Assert.True(fromMachine.ExitCode != NotConnected, $"{target}: {fromMachine}");
        }
    }

    [Fact]
    public async Task Certificates_that_are_forged_expired_or_anothers_are_refused_everywhere_and_logged()
    {
        using var authority = Certificates.Authority(install);
        using var other = Certificates.Forged(authority);
        var (now, control, server) = (DateTimeOffset.UtcNow, new NodeName("r1", Roles.Control), new NodeName(Joined, Roles.DroidServer));
        var day = TimeSpan.FromDays(1);
        // Each is right in all but one thing; the last ones are right, but not for this port.
        foreach (var (url, log, right, wrong) in new (string, Func<string>, NodeName, NodeName)[]
            { (Heartbeats, () => RouterdLog, server, control), (Droidd, () => machines.Other.Log("droidd"), control, server) })
        {
            var body = url == Heartbeats ? "{}" : null;
            using var forged = Certificates.Leaf(other, right, now - day, now + day);
            using var expired = Certificates.Leaf(authority, right, now - (2 * day), now - TimeSpan.FromMinutes(1));
            using var anothers = Certificates.Leaf(authority, wrong, now - day, now + day);
            using var good = Certificates.Leaf(authority, right, now - day, now + day);
            foreach (var (certificate, why) in new[] { (forged, "not of this cluster's CA"), (expired, "has expired"), (anothers, "may not do this") })
            {
                var answer = await Certificates.AskAsync(url, certificate, body);
                Assert.Equal(HttpStatusCode.Forbidden, answer.Status);
                Assert.Contains(why, answer.Body, StringComparison.Ordinal);
                var logged = certificate == anothers ? wrong.ToString() : certificate.SerialNumber;
                await Install.EventuallyAsync(() => Task.FromResult(log().Split('\n').Any(l =>
                    l.Contains("Refused", StringComparison.Ordinal) && l.Contains(logged, StringComparison.Ordinal))), Soon);
            }
            Assert.Equal(HttpStatusCode.Unauthorized, (await Certificates.AskAsync(url, null, body)).Status);
            // The same request with nothing wrong gets in: what it says is judged next.
            Assert.Equal(body is null ? HttpStatusCode.OK : HttpStatusCode.BadRequest, (await Certificates.AskAsync(url, good, body)).Status);
        }
        using var proxy = Certificates.Leaf(authority, control, now - day, now + day);
        Assert.Equal(HttpStatusCode.NotFound, (await Certificates.AskAsync(Nginx, proxy)).Status);
        using var nginxForged = Certificates.Leaf(other, control, now - day, now + day);
        using var nginxExpired = Certificates.Leaf(authority, control, now - (2 * day), now - TimeSpan.FromMinutes(1));
        foreach (var certificate in new[] { nginxForged, nginxExpired, null })
            Assert.Equal(HttpStatusCode.BadRequest, (await Certificates.AskAsync(Nginx, certificate)).Status);
        using var anotherServer = Certificates.Leaf(authority, server, now - day, now + day);
        Assert.Equal(HttpStatusCode.Forbidden, (await Certificates.AskAsync(Nginx, anotherServer)).Status);
    }

    [Fact]
    public async Task Join_token_lets_one_machine_in_and_only_for_its_time()
    {
        var joins = Heartbeats.Replace("heartbeat", "join", StringComparison.Ordinal);
        using var key = System.Security.Cryptography.ECDsa.Create(System.Security.Cryptography.ECCurve.NamedCurves.nistP256);
        async Task RefusedAsync(string token, string why)
        {
            Assert.True(JoinToken.TryParse(token, out var parsed));
            var body = System.Text.Json.JsonSerializer.Serialize(new JoinRequest(parsed.Secret, NodeIdentity.Request(key)), ClusterJson.Default.JoinRequest);
            var answer = await Certificates.AskAsync(joins, null, body);
            Assert.Equal(HttpStatusCode.Unauthorized, answer.Status);
            Assert.Contains(why, answer.Body, StringComparison.Ordinal);
            await Install.EventuallyAsync(() => Task.FromResult(RouterdLog.Contains($"Refused join from {machines.Cluster.Address}: {why}", StringComparison.Ordinal)), Soon);
            Assert.DoesNotContain(parsed.Secret, RouterdLog, StringComparison.Ordinal);
        }

        await RefusedAsync(machines.Token.Token, $"the join token for droid-server {Joined} was used before");
        var late = await machines.Cluster.TokenAsync("--name", "ds8", "--expires", "1s");
        await Task.Delay(TimeSpan.FromSeconds(1.2));
        await RefusedAsync(late.Token, "the join token for droid-server ds8 has expired");
        await RefusedAsync(JoinToken.New($"https://{machines.Cluster.Address}:{machines.Cluster.Port}", new string('0', 64)).Text, "there is no such join token");

        // Who finds another CA than the token names says nothing of the secret.
        var fresh = await machines.Cluster.TokenAsync("--name", "ds9");
        Assert.True(JoinToken.TryParse(fresh.Token, out var right));
        var folder = Path.Combine(install.Prefix, "nowhere");
        foreach (var (token, code, words) in new[]
            { ((right with { Fingerprint = new string('0', 64) }).Text, 1, "its CA has another fingerprint"), ("apj1.nonsense", 2, "this is no join token") })
        {
            var ran = await install.RunAsync("sh", ["-c", $"DOTNET_ROOT=$(sed -n 's/.*DOTNET_ROOT=\\([^ ]*\\).*/\\1/p' {install.Prefix}/var/lib/appoxy/services/droidd/run) "
                + $"{install.Prefix}/usr/lib/appoxy/droidd/droidd join --folder {folder} --role droid-server <<END\n{token}\nEND"]);
            Assert.Equal(code, ran.ExitCode);
            Assert.Contains(words, ran.Error, StringComparison.Ordinal);
            Assert.False(Directory.Exists(folder));
        }
        Assert.Equal("f", await install.SqlAsync("select used_at is not null from join_tokens where name = 'ds9'"));
        Assert.Equal("0", await install.SqlAsync("select count(*) from servers where name in ('ds8', 'ds9')"));
    }

    [Fact]
    public async Task Certificate_that_nears_its_end_is_renewed_by_its_machine_and_taken_by_its_nginx()
    {
        using var authority = Certificates.Authority(install);
        var now = DateTimeOffset.UtcNow;
        using var old = Certificates.Leaf(authority, new NodeName(Joined, Roles.DroidServer), now.AddDays(-25), now.AddDays(5));
        using var control = Certificates.Leaf(authority, new NodeName("r1", Roles.Control), now.AddDays(-1), now.AddDays(1));
        var file = $"{machines.Other.Prefix}/var/lib/appoxy/cluster/node.pem";
        await File.WriteAllTextAsync(file, Certificates.Pem(old));
        await machines.Other.ServiceAsync("droidd", "restart");
        foreach (var url in new[] { Droidd, Nginx })
        {
            await Install.EventuallyAsync(async () =>
            {
                try
                {
                    var serial = (await Certificates.AskAsync(url, control)).Serial;
                    return serial.Length > 0 && serial != old.SerialNumber
                        && await install.SqlAsync($"select count(*) from server_certificates where serial = '{serial}' and server = '{Joined}'") == "1";
                }
                catch (HttpRequestException)
                {
                    return false;
                }
            }, Soon);
        }
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));
        Assert.Equal(HttpStatusCode.OK, (await install.GetAsync(Host)).Status);
    }

    [Fact]
    public async Task Machine_whose_certificate_was_revoked_is_refused_and_gets_no_visitors_until_it_joins_anew()
    {
        using var stolen = System.Security.Cryptography.X509Certificates.X509Certificate2.CreateFromPemFile($"{machines.Other.Prefix}/var/lib/appoxy/cluster/node.pem");
        await install.MustAsync("servers", "revoke", Joined);
        var answer = await Certificates.AskAsync(Heartbeats, stolen, "{}");
        Assert.Equal(HttpStatusCode.Forbidden, answer.Status);
        Assert.Contains("was revoked", answer.Body, StringComparison.Ordinal);
        await Install.EventuallyAsync(() => Task.FromResult(RouterdLog.Contains($"its certificate {stolen.SerialNumber} was revoked", StringComparison.Ordinal)), Soon);
        await Install.EventuallyAsync(async () => (int)(await install.GetAsync(Host)).Status >= 500, Soon);
        await Install.EventuallyAsync(async () => (await install.MustAsync("servers", "list")).Split('\n')
            .Any(l => l.StartsWith(Joined + " ", StringComparison.Ordinal) && l.Contains(" down ", StringComparison.Ordinal)), Soon);

        var token = await machines.Cluster.TokenAsync("--name", Joined);
        var ran = await machines.Other.ProvisionAsync("--role", "droid-server", "--join", token.Token);
        Assert.True(ran.ExitCode == 0, ran.ToString());
        await Install.EventuallyAsync(async () => (await install.GetAsync(Host)).Status == HttpStatusCode.OK, Soon);
        Assert.Equal(HttpStatusCode.Forbidden, (await Certificates.AskAsync(Heartbeats, stolen, "{}")).Status);
    }

    [Fact]
    public async Task Apps_serve_sleep_and_wake_while_the_control_machine_is_gone()
    {
        var seconds = int.Parse(Environment.GetEnvironmentVariable("APPOXY_TEST_CONTROL_GONE") ?? "6", CultureInfo.InvariantCulture);
        await install.MustAsync("settings", "faraway", "pause-after=0", "snooze-after=3s");
        await Install.EventuallyAsync(async () => (await install.GetAsync(Host)).Status == HttpStatusCode.OK, Soon);
        string[] gone = ["routerd", "redis", "postgres"];
        foreach (var service in gone)
        {
            await install.ServiceAsync(service, "down");
        }
        try
        {
            var container = (await install.RunAsync("docker", ["-H", machines.Other.Docker, "ps", "-aq", "--filter", "label=appoxy.uid"])).Output.Trim().Split('\n')[0];
            var until = DateTimeOffset.UtcNow.AddSeconds(seconds);
            do
            {
                await Install.EventuallyAsync(async () => (await install.RunAsync("docker",
                    ["-H", machines.Other.Docker, "inspect", "-f", "{{.State.Running}}", container])).Output.Trim() == "false", TimeSpan.FromSeconds(60));
                Assert.Equal(HttpStatusCode.OK, (await install.GetAsync(Host)).Status);
            }
            while (DateTimeOffset.UtcNow < until);
        }
        finally
        {
            foreach (var service in gone.Reverse())
                await install.ServiceAsync(service, "up");
        }
        await Install.EventuallyAsync(async () => (await install.AppoxyAsync("settings", "faraway", "snooze-after=30m")).ExitCode == 0, TimeSpan.FromSeconds(60));
        await Install.EventuallyAsync(async () => (await install.AppoxyAsync("servers", "list")).Output.Split('\n')
            .Any(l => l.StartsWith(Joined + " ", StringComparison.Ordinal) && l.Contains(" up ", StringComparison.Ordinal)), Soon);
    }
}
