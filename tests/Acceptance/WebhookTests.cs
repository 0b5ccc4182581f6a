using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

/// <summary>Pushes to git hosts that tell Appoxy by a webhook.</summary>
[Collection(ThirdLane.Name)]
public sealed class WebhookTests(Install install)
{
    [Fact]
    public async Task Signed_pushes_of_its_branch_deploy_once_and_all_others_do_not()
    {
        var repository = await install.RepositoryOfAsync("folder", "hooked");
        await install.MustAsync("apps", "create", "hooked");
        var none = await install.AppoxyAsync("webhook", "create", "hooked");
        Assert.True(none.ExitCode == 2 && none.Error.Contains("never deployed from git", StringComparison.Ordinal), none.ToString());
        await install.MustAsync("deploy", "hooked", "--git", repository.Url, "--ref", "main");
        var made = JsonDocument.Parse(await install.MustAsync("webhook", "create", "hooked", "--json")).RootElement;
        var (id, secret) = (made.GetProperty("id").GetString()!, made.GetProperty("secret").GetString()!);
        var path = new Uri(made.GetProperty("url").GetString()!).AbsolutePath;
        Assert.DoesNotContain(secret, await install.MustAsync("webhook", "list", "hooked", "--json"), StringComparison.Ordinal);

        // Who knows no secret is told nothing and changes nothing.
        var push = await PushAsync(repository, "1st");
        Assert.Equal(HttpStatusCode.Unauthorized, (await SendAsync(path, push, [])).Status);
        Assert.Equal(HttpStatusCode.Unauthorized, (await SendAsync(path, push, [("X-GitHub-Event", "push"), GitHub(push, "wrong")])).Status);
        Assert.Equal(HttpStatusCode.Unauthorized, (await SendAsync(path, push, [("X-Hub-Signature-256", "sha256=")])).Status);
        Assert.Equal(HttpStatusCode.Unauthorized, (await SendAsync(path, push + " ", [("X-GitHub-Event", "push"), GitHub(push, secret)])).Status);
        Assert.Equal(HttpStatusCode.Unauthorized, (await SendAsync(path, push, [("X-Gitlab-Token", secret[..^1])])).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await SendAsync(path[..^1] + (path[^1] == 'a' ? 'b' : 'a'), push, [GitHub(push, secret)])).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await SendAsync("/v1/hooks/hello/" + id, push, [GitHub(push, secret)])).Status);
        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, (await SendAsync(path, new string(' ', 26 << 20), [GitHub(push, secret)])).Status);
        Assert.Equal(1, await DeploymentsAsync());

        // What is no push to its branch.
        Assert.Contains("pong", (await SendAsync(path, "{}", [("X-GitHub-Event", "ping"), GitHub("{}", secret)])).Body, StringComparison.Ordinal);
        var other = push.Replace("refs/heads/main", "refs/heads/dev", StringComparison.Ordinal);
        Assert.Contains("not to main", (await SendAsync(path, other, [("X-GitHub-Event", "push"), GitHub(other, secret)])).Body, StringComparison.Ordinal);
        var deleted = $$"""{"ref":"refs/heads/main","after":"{{new string('0', 40)}}","deleted":true}""";
        Assert.Contains("deleted", (await SendAsync(path, deleted, [("X-GitHub-Event", "push"), GitHub(deleted, secret)])).Body, StringComparison.Ordinal);
        var broken = """{"ref":""";
        Assert.Equal(HttpStatusCode.BadRequest, (await SendAsync(path, broken, [("X-GitHub-Event", "push"), GitHub(broken, secret)])).Status);
        Assert.Equal(1, await DeploymentsAsync());

        // GitHub: as JSON and, with its default, as a form; the same delivery again deploys nothing.
        var first = new[] { ("X-GitHub-Event", "push"), ("X-GitHub-Delivery", "d-1"), GitHub(push, secret) };
        var (status, body) = await SendAsync(path, push, first);
        Assert.True(status == HttpStatusCode.Accepted && body.Contains("deploys", StringComparison.Ordinal), body);
        await ServesAsync("1st");
        Assert.Contains("came before", (await SendAsync(path, push, first)).Body, StringComparison.Ordinal);
        first[1].Item2 = "d-2";
        Assert.Contains("deployed already", (await SendAsync(path, push, first)).Body, StringComparison.Ordinal);
        var form = "payload=" + WebUtility.UrlEncode(await PushAsync(repository, "2nd"));
        await SendAsync(path, form, [("X-GitHub-Event", "push"), GitHub(form, secret)], "application/x-www-form-urlencoded");
        await ServesAsync("2nd");
        // GitLab and Gitea.
        await SendAsync(path, await PushAsync(repository, "3rd"), [("X-Gitlab-Event", "Push Hook"), ("X-Gitlab-Token", secret)]);
        await ServesAsync("3rd");
        push = await PushAsync(repository, "4th");
        await SendAsync(path, push, [("X-Gitea-Event", "push"), ("X-Gitea-Signature", Hmac(push, secret))]);
        await ServesAsync("4th");
        Assert.Equal(5, await DeploymentsAsync());
        Assert.Contains("deployment 5", await install.MustAsync("webhook", "list", "hooked"), StringComparison.Ordinal);

        // Too many are slowed; a removed one is gone.
        HttpStatusCode last = default;
        for (var count = 0; count < 70 && last != HttpStatusCode.TooManyRequests; count++)
            last = (await SendAsync(path, "{}", [])).Status;
        Assert.Equal(HttpStatusCode.TooManyRequests, last);
        await install.MustAsync("webhook", "remove", "hooked", id);
        Assert.Equal(HttpStatusCode.NotFound, (await SendAsync(path, push, [GitHub(push, secret)])).Status);
        Assert.DoesNotContain(secret, await File.ReadAllTextAsync(Path.Combine(install.Prefix, "var/log/appoxy/routerd/current")), StringComparison.Ordinal);
        await install.MustAsync("apps", "destroy", "hooked", "--confirm", "hooked");
    }

    private async Task<int> DeploymentsAsync() =>
        int.Parse(await install.SqlAsync("select count(*) from deployments d join apps a on a.uid = d.app_uid where a.name = 'hooked'"),
            System.Globalization.CultureInfo.InvariantCulture);

    private Task ServesAsync(string version) => Install.EventuallyAsync(
        async () => (await install.GetAsync("hooked.localhost")).Body == version + "\n"
            && await install.SqlAsync("select count(*) from deployments where finished_at is null") == "0", TimeSpan.FromSeconds(60));

    /// <summary>Commits a version, and what a host sends of it.</summary>
    private async Task<string> PushAsync(GitRepository repository, string version)
    {
        await File.WriteAllTextAsync(Path.Combine(repository.Folder, "version.txt"), version + "\n");
        await repository.CommitAsync(version);
        var commit = (await install.RunAsync("git", ["-C", repository.Folder, "rev-parse", "HEAD"])).Output.Trim();
        return $$"""{"ref":"refs/heads/main","after":"{{commit}}","repository":{"full_name":"acme/hooked"} }""";
    }

    private async Task<(HttpStatusCode Status, string Body)> SendAsync(
        string path, string body, (string Name, string Value)[] headers, string type = "application/json")
    {
        using var http = install.Site("console.localhost");
        using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = new StringContent(body, Encoding.UTF8, type) };
        foreach (var (name, value) in headers)
            request.Headers.TryAddWithoutValidation(name, value);
        using var response = await http.SendAsync(request);
        return (response.StatusCode, await response.Content.ReadAsStringAsync());
    }

    private static (string Name, string Value) GitHub(string body, string secret) => ("X-Hub-Signature-256", "sha256=" + Hmac(body, secret));

    private static string Hmac(string body, string secret) =>
        Convert.ToHexStringLower(HMACSHA256.HashData(Encoding.UTF8.GetBytes(secret), Encoding.UTF8.GetBytes(body)));
}
