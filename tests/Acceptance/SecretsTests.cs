using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Appoxy.Routerd;
using Appoxy.Routerd.Sealing;

namespace Appoxy.Tests.Acceptance;

/// <summary>Where secrets are to be found, and where not.</summary>
[Collection(ThirdLane.Name)]
public sealed class SecretsTests(Install install)
{
    private string KeyFile => Path.Combine(install.Prefix, "etc/appoxy/secrets.key");

    [Fact]
    public async Task No_secret_shows_in_databases_logs_configurations_answers_or_process_lists()
    {
        using var processes = new ProcessLists();
        var planted = new Dictionary<string, string>();
        string Plant(string what) => planted[what] = $"planted.{what}.{RandomNumberGenerator.GetHexString(24)}";
        using var api = install.Api();
        var answers = new StringBuilder();

        // A user with a password, and a token.
        var invited = await PostAsync(api, "v1/users", """{"email":"planted@example.org","role":"member"}""", answers: null);
        var invitation = JsonDocument.Parse(invited).RootElement.EnumerateObject().First(p => p.Name is "token" or "invitation").Value.GetString()!;
        planted["invitation"] = invitation;
        var password = Plant("user");
        await PostAsync(api, "v1/invitations/accept", $$"""{"token":"{{invitation}}","password":"{{password}}"}""", answers);
        planted["token"] = JsonDocument.Parse(await PostAsync(api, "v1/tokens",
            $$"""{"email":"planted@example.org","password":"{{password}}","name":"planted"}""", answers: null)).RootElement.GetProperty("token").GetString()!;
        await PostAsync(api, "v1/tokens", $$"""{"email":"nobody@example.org","password":"{{Plant("wrong-password")}}"}""", answers);

        // From git with a kept password, and with one in the address; by a webhook too.
        var repository = await install.RepositoryOfAsync("folder", "planted");
        var root = Path.GetDirectoryName(repository.Folder)!;
        await using var kept = new GitHttpServer(root, Plant("git-auth"));
        await using var inUrl = new GitHttpServer(root, Plant("url"));
        await install.MustAsync("apps", "create", "planted");
        await install.MustAsync("git-auth", "planted", "--host", $"127.0.0.1:{kept.Port}", "--username", "x", "--password-file", FileOf(planted["git-auth"]));
        await install.MustAsync("env", "set", "planted", "--file", FileOf($"SECRET={Plant("env")}\nSHOWN=yes\n"));
        await install.MustAsync("deploy-key", "planted");
        await install.MustAsync("routing", "planted", "auth=ann", "--password-file", FileOf(Plant("basic-auth")));
        await install.MustAsync("deploy", "planted", "--git", $"http://127.0.0.1:{kept.Port}/planted/.git", "--ref", "main");
        var whole = $"http://x:{planted["url"]}@127.0.0.1:{inUrl.Port}/planted/.git";
        await repository.ReplaceAsync("version.txt", "1", "2");
        await DeployAsync(api, "planted", FromGit(whole), DeploymentStates.Live, answers);
        Assert.Equal("2\n", await VisitAsync("planted", "/", planted["basic-auth"]));
        Assert.Equal(planted["env"], await VisitAsync("planted", "/env/SECRET", planted["basic-auth"]));
        var hook = JsonDocument.Parse(await PostAsync(api, "v1/apps/planted/webhooks", """{"branch":"main"}""", answers: null)).RootElement;
        planted["webhook"] = hook.GetProperty("secret").GetString()!;
        var uid = await install.SqlAsync("select uid from apps where name = 'planted'");
        var spec = JsonSerializer.Deserialize(
            await File.ReadAllTextAsync(Path.Combine(install.Prefix, "var/lib/appoxy/droids", uid, "spec.json")), AppoxyJson.Default.DroidSpec)!;
        planted["deploy-key"] = spec.GitAccess!.Key!.Split('\n')[2];
        Assert.Equal(whole, spec.Source.Git!.Url);

        // By buildpacks, and with a release command, that fail at last.
        await install.MustAsync("apps", "create", "plantpack");
        await install.MustAsync("env", "set", "plantpack", "--file", FileOf($"SECRET={Plant("pack-env")}\n"));
        await install.MustAsync("deploy", "plantpack", new Folder(install, "pages", "plantpack").Path);
        await install.MustAsync("apps", "create", "plantteam");
        await install.MustAsync("env", "set", "plantteam", "--file", FileOf($"SECRET={Plant("release-env")}\n"));
        var team = new Folder(install, "team", "plantteam").Write("release.sleep", "1");
        await install.MustAsync("deploy", "plantteam", team.Path);
        team.Write("release.code", "3");
        Assert.Equal(1, (await install.AppoxyAsync("deploy", "plantteam", team.Path)).ExitCode);
        await DeployAsync(api, "planted", FromGit(whole.Replace("planted/.git", "nowhere/.git", StringComparison.Ordinal)),
            DeploymentStates.Failed, answers);

        // Rotated, rolled back, and asked for what can't be.
        await RotateAsync();
        await install.MustAsync("rollback", "planted");
        Assert.Equal("1\n", await VisitAsync("planted", "/", planted["basic-auth"]));
        using (var env = await api.PatchAsync("v1/apps/planted/env", Json($$"""{"1BAD":"{{planted["env"]}}"}""")))
            answers.Append(await env.Content.ReadAsStringAsync());
        await PostAsync(api, "v1/apps/planted/deployments", FromGit($"gopher://x:{planted["url"]}@host/"), answers);
        await PostAsync(api, "v1/apps/planted/deployments", FromGit(whole, "no such"), answers);
        foreach (var path in new[] { "", "/deployments", "/deployments/1/log", "/deployments/2/log", "/deployments/3/log", "/webhooks", "/git-auth", "/deploy-key", "/routing", "/droids", "/logs" })
            answers.Append(await api.GetStringAsync("v1/apps/planted" + path));
        foreach (var path in new[] { "v1/apps/plantpack/deployments/1/log", "v1/apps/plantteam/deployments/2/log", "v1/apps", "v1/droids", "v1/servers", "v1/users", "v1/audit", "v1/tokens" })
            answers.Append(await api.GetStringAsync(path));

        // What is planted to be found must be: else the search sees nothing at all.
        await install.SqlAsync("update webhooks set last_result = 'control.database' where app_uid in (select uid from apps where name = 'planted')");
        await RedisAsync("set", "control", "control.redis");
        await VisitAsync("planted", "/control.log", planted["basic-auth"]);
        // nginx keeps lines to itself for a second.
        await Install.EventuallyAsync(() => Task.FromResult(Text(Path.Combine(install.Prefix, "var/log/appoxy")).Contains("control.log", StringComparison.Ordinal)),
            TimeSpan.FromSeconds(10));
        await install.RunAsync("sh", ["-c", "sleep 0.5; : control.process"]);
        answers.Append("control.answers");
        await File.WriteAllTextAsync(Path.Combine(install.Prefix, "var/lib/appoxy/nginx/control"), "control.nginx");

        var places = new Dictionary<string, string>
        {
            ["database"] = (await install.RunAsync("pg_dump", ["--inserts", install.Installed("database_url")])).Output,
            ["redis"] = await RedisDumpAsync(),
            ["log"] = Text(Path.Combine(install.Prefix, "var/log/appoxy")) + Text(Path.Combine(install.Prefix, "var/lib/appoxy/droids"), "deployments"),
            ["nginx"] = Text(Path.Combine(install.Prefix, "var/lib/appoxy/nginx")) + Text(Path.Combine(install.Prefix, "var/lib/appoxy"), "*.snapshot"),
            ["answers"] = answers.ToString(),
            ["labels"] = (await install.DockerAsync(["inspect", "-f", "{{json .Config.Labels}}",
                .. (await install.DockerAsync("ps", "-aq")).Output.Split('\n', StringSplitOptions.RemoveEmptyEntries)])).Output,
            ["process"] = processes.Seen(),
        };
        foreach (var control in new[] { "database", "redis", "log", "nginx", "answers", "process" })
            Assert.Contains("control." + control, places[control], StringComparison.Ordinal);
        Assert.Contains(uid, places["labels"], StringComparison.Ordinal);
        Assert.Contains("git-remote-http", places["process"], StringComparison.Ordinal);
        var found = places.SelectMany(p => planted.Where(s => Forms(s.Value).Any(f => p.Value.Contains(f, StringComparison.Ordinal)))
            .Select(s => $"{s.Key} in {p.Key}: …{Around(p.Value, s.Value)}…"));
        Assert.Empty(found);
        Assert.Equal(12, planted.Count);

        await RedisAsync("del", "control");
        File.Delete(Path.Combine(install.Prefix, "var/lib/appoxy/nginx/control"));
        foreach (var app in new[] { "planted", "plantpack", "plantteam" })
            await install.MustAsync("apps", "destroy", app, "--confirm", app);
        await install.MustAsync("users", "remove", "planted@example.org");
    }

    [Fact]
    public async Task Without_its_key_file_Appoxy_serves_and_says_which_file_is_missing()
    {
        await install.MustAsync("apps", "create", "keyless");
        await install.MustAsync("env", "set", "keyless", "SECRET=1");
        await install.MustAsync("deploy", "keyless", new Folder(install, "folder", "keyless").Path);
        File.Move(KeyFile, KeyFile + ".away");
        try
        {
            await install.RestartAsync("routerd");
            using var api = install.Api();
            await Install.EventuallyAsync(async () =>
            {
                using var ready = await Try(() => api.GetAsync("readyz"));
                return ready?.StatusCode == HttpStatusCode.OK;
            }, TimeSpan.FromSeconds(30));
            using (var env = await api.GetAsync("v1/apps/keyless/env"))
            {
                Assert.Equal(HttpStatusCode.ServiceUnavailable, env.StatusCode);
                Assert.Contains(KeyFile, await env.Content.ReadAsStringAsync(), StringComparison.Ordinal);
            }
            using (var set = await api.PatchAsync("v1/apps/keyless/env", Json("""{"SECRET":"2"}""")))
                Assert.Equal(HttpStatusCode.ServiceUnavailable, set.StatusCode);
            Assert.Equal("1", await VisitAsync("keyless", "/env/SECRET"));
            await install.MustAsync("settings", "keyless", "memory=200m");
            await install.MustAsync("domains", "list", "keyless");
            // Nothing was told to droidd, least of all an empty env.
            await Task.Delay(4000);
            Assert.Equal("1", await VisitAsync("keyless", "/env/SECRET"));
            Assert.False(File.Exists(KeyFile));
        }
        finally
        {
            File.Move(KeyFile + ".away", KeyFile);
        }
        // With it back, what was put off is done, without a restart.
        await Install.EventuallyAsync(async () => (await install.DockerAsync("inspect", "-f", "{{.HostConfig.Memory}}",
            await install.SqlAsync("select uid from apps where name = 'keyless'"))).Output.Trim() == $"{200 << 20}", TimeSpan.FromSeconds(30));
        Assert.Equal("1", await VisitAsync("keyless", "/env/SECRET"));
        await install.MustAsync("apps", "destroy", "keyless", "--confirm", "keyless");
    }

    [Fact]
    public async Task Upgrade_seals_what_was_plain_and_leaves_none_of_it_in_the_files_of_Postgres()
    {
        const string schema = "older";
        var plain = "plain." + RandomNumberGenerator.GetHexString(24);
        await install.SqlAsync($"create schema {schema}");
        var settings = (await File.ReadAllTextAsync(Path.Combine(install.Prefix, "etc/appoxy/routerd.json")))
            .Replace("Database=appoxy", $"Database=appoxy;Search Path={schema}", StringComparison.Ordinal);
        var config = Path.Combine(install.Prefix, "older.json");
        await File.WriteAllTextAsync(config, settings);
        var routerd = Path.Combine(install.Prefix, "usr/lib/appoxy/routerd/routerd");
        Task<Ran> MigrateAsync() => install.RunAsync("env", [$"DOTNET_ROOT={Path.GetFullPath(Path.Combine(System.Runtime.InteropServices.RuntimeEnvironment.GetRuntimeDirectory(), "../../.."))}", routerd, "migrate", "--config", config]);
        var ran = await MigrateAsync();
        Assert.True(ran.ExitCode == 0, ran.ToString());
        // As it was before there were keys.
        var set = $"set search_path = {schema};";
        await install.SqlAsync(set + $"""
            update sealing set vacuumed_at = null;
            alter table apps add env jsonb not null default '{"{}"}';
            alter table git_passwords add password text not null, alter sealed_password drop not null;
            alter table deploy_keys add private_key text not null, alter sealed_private_key drop not null;
            alter table webhooks add secret text not null, alter sealed_secret drop not null;
            insert into apps (uid, name, env) values ('aaaaaaa', 'older', '{"{"}"A": "{plain}", "B": ""{"}"}');
            insert into git_passwords (app_uid, host, username, password) values ('aaaaaaa', 'git.example', 'x', '{plain}');
            insert into deploy_keys (app_uid, private_key, public_key) values ('aaaaaaa', '{plain}', 'public');
            insert into webhooks (id, app_uid, url, branch, secret) values ('w', 'aaaaaaa', 'https://x:{plain}@git.example/a', 'main', '{plain}');
            insert into deployments (app_uid, number, source, builder, by_admin)
              values ('aaaaaaa', 7, '{"{"}"git": {"{"}"url": "https://x:{plain}@git.example/a", "ref": "main"{"}"}{"}"}', 'auto', false);
            """);
        ran = await MigrateAsync();
        Assert.True(ran.ExitCode == 0, ran.ToString());
        var box = new SecretBox(new SecretKeys(new RouterdSettings { SecretsKey = KeyFile }, TimeProvider.System));
        async Task<string> OpenAsync(SealedColumn column, string where, params string[] row) => box.Open(
            Convert.FromHexString(await install.SqlAsync($"{set} select encode({column.Name}, 'hex') from {column.Table} where {where}")), column, row);
        Assert.Equal(plain, await OpenAsync(SealedColumn.Env, "name = 'A'", "aaaaaaa", "A"));
        Assert.Equal("", await OpenAsync(SealedColumn.Env, "name = 'B'", "aaaaaaa", "B"));
        Assert.Equal(plain, await OpenAsync(SealedColumn.GitPassword, "true", "aaaaaaa", "git.example"));
        Assert.Equal(plain, await OpenAsync(SealedColumn.DeployKey, "true", "aaaaaaa"));
        Assert.Equal(plain, await OpenAsync(SealedColumn.WebhookSecret, "true", "w", "aaaaaaa"));
        Assert.Equal($"https://x:{plain}@git.example/a", await OpenAsync(SealedColumn.WebhookUrl, "true", "w", "aaaaaaa"));
        Assert.Equal($"https://x:{plain}@git.example/a", await OpenAsync(SealedColumn.DeploymentUrl, "true", "aaaaaaa", "7"));
        Assert.Equal("https://x:***@git.example/a", await install.SqlAsync(set + "select source->'git'->>'url' from deployments"));
        Assert.Equal("1", await install.SqlAsync(set + "select count(*) from webhooks where url = 'https://x:***@git.example/a'"));
        var files = Path.Combine(install.Prefix, "var/lib/appoxy/postgres/base");
        Assert.NotEqual(1, (await install.RunAsync("grep", ["-rqa", "git.example", files])).ExitCode);
        var left = await install.RunAsync("grep", ["-rla", plain, files]);
        Assert.True(left.ExitCode == 1, left.ToString());
        await install.SqlAsync($"drop schema {schema} cascade");
    }

    private async Task RotateAsync()
    {
        var before = (await File.ReadAllLinesAsync(KeyFile)).Where(l => l[0] != '#').Select(l => l.Split(' ')[0]).ToList();
        await install.MustAsync("secrets", "rotate");
        async Task<List<SecretKeyUse>> KeysAsync()
        {
            using var api = install.Api();
            return [.. JsonSerializer.Deserialize(await api.GetStringAsync("v1/secrets/keys"), AppoxyJson.Default.PageSecretKeyUse)!.Items];
        }
        await Install.EventuallyAsync(async () => (await KeysAsync()).All(k => k.Newest == k.Values > 0), TimeSpan.FromSeconds(30));
        // What is being stored when the key comes may still have the old one.
        Assert.Equal(1, (await install.AppoxyAsync("secrets", "remove", before[^1])).ExitCode);
        var lines = await File.ReadAllLinesAsync(KeyFile);
        lines[^1] = lines[^1][..^20] + DateTime.UtcNow.AddMinutes(-2).ToString("yyyy-MM-ddTHH:mm:ssZ", System.Globalization.CultureInfo.InvariantCulture);
        await File.WriteAllLinesAsync(KeyFile, lines);
        foreach (var old in before)
            await install.MustAsync("secrets", "remove", old);
        Assert.Equal(1, (await install.AppoxyAsync("secrets", "remove", (await KeysAsync()).Single().Id)).ExitCode);
    }

    private async Task DeployAsync(HttpClient api, string app, string body, string end, StringBuilder answers)
    {
        var begun = await PostAsync(api, $"v1/apps/{app}/deployments", body, answers);
        var number = JsonDocument.Parse(begun).RootElement.GetProperty("number").GetInt32();
        await Install.EventuallyAsync(async () =>
        {
            var now = await api.GetStringAsync($"v1/apps/{app}/deployments/{number}");
            answers.Append(now);
            return DeploymentStates.IsFinal(JsonDocument.Parse(now).RootElement.GetProperty("state").GetString()!);
        }, TimeSpan.FromSeconds(90));
        Assert.Equal(end, JsonDocument.Parse(await api.GetStringAsync($"v1/apps/{app}/deployments/{number}")).RootElement.GetProperty("state").GetString());
    }

    private static async Task<string> PostAsync(HttpClient api, string path, string body, StringBuilder? answers)
    {
        using var response = await api.PostAsync(path, Json(body));
        var text = await response.Content.ReadAsStringAsync();
        answers?.Append(text);
        return text;
    }

    private static string FromGit(string url, string branch = "main") => JsonSerializer.Serialize(
        new NewDeployment(new DroidSource { Git = new GitSource(url, branch) }), AppoxyJson.Default.NewDeployment);

    private static StringContent Json(string body) => new(body, Encoding.UTF8, "application/json");

    private static async Task<HttpResponseMessage?> Try(Func<Task<HttpResponseMessage>> ask)
    {
        try
        {
            return await ask();
        }
        catch (HttpRequestException)
        {
            return null;
        }
    }

    private async Task<string> VisitAsync(string app, string path, string? password = null)
    {
        using var http = LocalHttp.For($"http://127.0.0.1:{install.HttpPort}/", TimeSpan.FromSeconds(60));
        using var request = new HttpRequestMessage(HttpMethod.Get, path) { Headers = { Host = app + ".localhost" } };
        if (password is not null)
            request.Headers.Authorization = new("Basic", Convert.ToBase64String(Encoding.UTF8.GetBytes("ann:" + password)));
        using var response = await http.SendAsync(request);
        return await response.Content.ReadAsStringAsync();
    }

    private string FileOf(string text)
    {
        var path = Path.Combine(install.Prefix, "planted." + Path.GetRandomFileName());
        File.WriteAllText(path, text);
        return path;
    }

    private async Task<string> RedisAsync(params string[] command) =>
        (await install.RunAsync("redis-cli", ["-s", Path.Combine(install.Prefix, "run/appoxy/redis.sock"), .. command])).Output;

    private async Task<string> RedisDumpAsync()
    {
        var all = new StringBuilder();
        foreach (var key in (await RedisAsync("--scan")).Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            var type = (await RedisAsync("type", key)).Trim();
            all.Append(key).Append(' ').Append(type).Append('\n').Append(type switch
            {
                "string" => await RedisAsync("get", key),
                "hash" => await RedisAsync("hgetall", key),
                "list" => await RedisAsync("lrange", key, "0", "-1"),
                "set" => await RedisAsync("smembers", key),
                "zset" => await RedisAsync("zrange", key, "0", "-1"),
                "stream" => await RedisAsync("xrange", key, "-", "+"),
                _ => throw new InvalidOperationException($"{key} is a {type}"),
            });
        }
        return all.ToString();
    }

    /// <summary>All files below a folder, or those of a name or below a folder of that name.</summary>
    private static string Text(string folder, string? name = null)
    {
        var all = new StringBuilder();
        var files = name is null ? Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories)
            : name.Contains('*', StringComparison.Ordinal) ? Directory.EnumerateFiles(folder, name)
            : Directory.EnumerateDirectories(folder, name, SearchOption.AllDirectories).SelectMany(d => Directory.EnumerateFiles(d, "*", SearchOption.AllDirectories));
        foreach (var file in files.Where(f => new FileInfo(f).LinkTarget is null))
        {
            try
            {
                all.Append(File.ReadAllText(file)).Append('\n');
            }
            catch (IOException)
            {
                // Rotated away meanwhile, or a socket.
            }
        }
        return all.ToString();
    }

    /// <summary>A secret as it is, in a URL, in base64 and in hex.</summary>
    private static string[] Forms(string secret) =>
    [
        secret, Uri.EscapeDataString(secret), Convert.ToBase64String(Encoding.UTF8.GetBytes(secret)).TrimEnd('=')[..^1],
        Convert.ToHexStringLower(Encoding.UTF8.GetBytes(secret)),
    ];

    private static string Around(string text, string secret) =>
        Forms(secret).Select(f => text.IndexOf(f, StringComparison.Ordinal)).First(i => i >= 0) is var at
            ? text[Math.Max(0, at - 120)..Math.Min(text.Length, at + 60)].ReplaceLineEndings(" ") : "";

    /// <summary>The command lines of all processes, looked at without a pause.</summary>
    private sealed class ProcessLists : IDisposable
    {
        private readonly HashSet<string> seen = [];
        private readonly CancellationTokenSource stop = new();
        private readonly Task looking;

        public ProcessLists() => looking = Task.Run(LookAsync);

        public string Seen()
        {
            stop.Cancel();
            looking.Wait();
            return string.Join('\n', seen);
        }

        private async Task LookAsync()
        {
            while (!stop.IsCancellationRequested)
            {
                foreach (var process in Directory.EnumerateDirectories("/proc").Where(d => char.IsAsciiDigit(d[6])))
                {
                    try
                    {
                        seen.Add(await File.ReadAllTextAsync(Path.Combine(process, "cmdline")));
                    }
                    catch (Exception e) when (e is IOException or UnauthorizedAccessException)
                    {
                        // It has ended meanwhile.
                    }
                }
                await Task.Delay(20);
            }
        }

        public void Dispose()
        {
            stop.Cancel();
            stop.Dispose();
        }
    }
}
