using System.Net;
using System.Text.Json;
using CliWrap;
using CliWrap.EventStream;

namespace Appoxy.Tests.Acceptance;

[Collection(SecondLane.Name)]
public sealed class DeployTests(Install install) : ShopTests(install)
{
    [Fact]
    public async Task Node_app_is_deployed_and_answers_with_its_packages()
    {
        var (status, body, _) = await Install.GetAsync(Shop.Host);
        Assert.Equal(HttpStatusCode.OK, status);
        Assert.Contains($"at {Shop.Host}", body, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Build_log_streams_line_by_line_while_it_builds()
    {
        // A new line in package.json makes npm run again, which takes its seconds.
        await Shop.Repository.ReplaceAsync("package.json", "\"private\": true,", "\"private\": true,\n  \"description\": \"a shop\",");
        var lines = new List<(DateTimeOffset At, string Text)>();
        var exitCode = -1;
        await foreach (var happened in Install.Command(Path.Combine(Install.Prefix, "bin/appoxy"), "deploy", "shop", "--git", Shop.Repository.Url, "--ref", "main")
            .WithValidation(CommandResultValidation.None).ListenAsync())
        {
            if (happened is StandardOutputCommandEvent { Text: var text })
                lines.Add((DateTimeOffset.UtcNow, text));
            else if (happened is ExitedCommandEvent exited)
                exitCode = exited.ExitCode;
        }
        Assert.Equal(0, exitCode);
        var npm = lines.First(l => l.Text.Contains("npm ci", StringComparison.Ordinal));
        var live = lines.Last(l => l.Text.Contains("Live", StringComparison.Ordinal));
        Assert.True(live.At - npm.At > TimeSpan.FromSeconds(1), "the log came all at once");
        Assert.True(lines.Select(l => l.At.Ticks / TimeSpan.TicksPerMillisecond / 50).Distinct().Count() > 3, "the log came in a few lumps");
        // Exit 0 means that it answers: asked at once.
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
    }

    [Fact]
    public async Task Broken_Dockerfile_fails_with_its_log_and_the_previous_version_keeps_serving()
    {
        var before = (await Install.GetAsync(Shop.Host)).Body;
        await Shop.Repository.ReplaceAsync("Dockerfile", "USER nobody", "RUN echo about to fail && exit 9\nUSER nobody");
        try
        {
            await using var load = new Load(Install, Shop.Host);
            var ran = await Install.AppoxyAsync("deploy", "shop", "--git", Shop.Repository.Url, "--ref", "main");
            Assert.Equal(1, ran.ExitCode);
            Assert.Contains("about to fail", ran.Output, StringComparison.Ordinal);
            Assert.Contains("9", ran.Error, StringComparison.Ordinal);
            await load.EndAsync(atLeast: 10);
            Assert.Equal(before, (await Install.GetAsync(Shop.Host)).Body);
        }
        finally
        {
            await Shop.Repository.ReplaceAsync("Dockerfile", "RUN echo about to fail && exit 9\n", "");
        }
        var newest = JsonDocument.Parse(await Install.MustAsync("deployments", "shop", "--json")).RootElement[0];
        Assert.Equal("failed", newest.GetProperty("state").GetString());
        Assert.Contains("about to fail", await Install.MustAsync("logs", "shop", "--build", newest.GetProperty("number").ToString()), StringComparison.Ordinal);
    }

    [Fact]
    public async Task New_version_replaces_the_old_one_without_a_failed_request()
    {
        await Shop.Repository.ReplaceAsync("server.js", "send(`shop ", "send(`great shop ");
        await using var load = new Load(Install, Shop.Host);
        await Install.MustAsync("deploy", "shop", "--git", Shop.Repository.Url, "--ref", "main");
        Assert.StartsWith("great shop", (await Install.GetAsync(Shop.Host)).Body, StringComparison.Ordinal);
        await Task.Delay(TimeSpan.FromSeconds(2));
        await load.EndAsync(atLeast: 50);
        await Shop.Repository.ReplaceAsync("server.js", "send(`great shop ", "send(`shop ");
    }

    [Fact]
    public async Task Env_reaches_the_app_without_a_new_build()
    {
        await Install.MustAsync("env", "set", "shop", "GREETING=good day $HOME \"x\"");
        await Install.EventuallyAsync(async () => (await Install.GetAsync(Shop.Host, "/env/GREETING")).Body == "good day $HOME \"x\"", TimeSpan.FromSeconds(30));
        await Install.MustAsync("env", "unset", "shop", "GREETING");
        await Install.EventuallyAsync(async () => (await Install.GetAsync(Shop.Host, "/env/GREETING")).Body == "", TimeSpan.FromSeconds(30));
    }

    [Fact]
    public async Task Env_changes_in_quick_succession_end_with_the_last_one()
    {
        using var api = Install.Api();
        for (var round = 1; round <= 3; round++)
        {
            var last = "";
            for (var change = 1; change <= 5; change++)
            {
                last = $"{round}.{change}";
                using var body = new StringContent($$"""{"COUNT":"{{last}}"}""", System.Text.Encoding.UTF8, "application/json");
                using var response = await api.PatchAsync("v1/apps/shop/env", body);
                Assert.True(response.IsSuccessStatusCode);
                await Task.Delay(TimeSpan.FromMilliseconds(60 * change));
            }
            await Install.EventuallyAsync(async () => (await Install.GetAsync(Shop.Host, "/env/COUNT")).Body == last, TimeSpan.FromSeconds(30));
        }
        await Install.MustAsync("env", "unset", "shop", "COUNT");
    }

    [Fact]
    public async Task Password_of_a_git_address_is_neither_in_the_log_nor_on_a_command_line()
    {
        const string secret = "hunter2-secret";
        var port = Install.FreePort();
        var seen = "";
        using var listener = new System.Net.Sockets.TcpListener(IPAddress.Loopback, port);
        listener.Start();
        var server = Task.Run(async () =>
        {
            using var client = await listener.AcceptTcpClientAsync();
            foreach (var file in Directory.EnumerateDirectories("/proc").Where(d => int.TryParse(Path.GetFileName(d), out _)))
            {
                try
                {
                    seen += await File.ReadAllTextAsync(Path.Combine(file, "cmdline"));
                }
                catch (IOException)
                {
                    // It has ended meanwhile.
                }
            }
        });
        // Through the API, as argv of the CLI would be the user's own doing.
        using var api = Install.Api();
        using var body = new StringContent("{\"source\":{\"git\":{\"url\":\"" + $"http://me:{secret}@127.0.0.1:{port}/x.git" + "\"}}}", System.Text.Encoding.UTF8, "application/json");
        using var response = await api.PostAsync("v1/apps/shop/deployments", body);
        var answer = await response.Content.ReadAsStringAsync();
        var number = JsonDocument.Parse(answer).RootElement.GetProperty("number").GetInt32();
        await server.WaitAsync(TimeSpan.FromSeconds(20));
        var log = await api.GetStringAsync($"v1/apps/shop/deployments/{number}/log?follow=true");
        Assert.Contains("git", seen, StringComparison.Ordinal);
        Assert.DoesNotContain(secret, seen, StringComparison.Ordinal);
        Assert.DoesNotContain(secret, answer + log, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Flood_of_output_is_cut_and_the_end_of_the_log_is_kept()
    {
        var repository = await Install.RepositoryOfAsync("silent", "loud");
        await repository.ReplaceAsync("Dockerfile", "USER nobody", "RUN yes | head -c 3000000\nRUN yes $(seq 1 30) | head -c 18000000\nRUN head -c 2000000 /dev/zero | tr '\\0' x\nUSER nobody");
        await Install.MustAsync("apps", "create", "loud");
        await Install.MustAsync("settings", "loud", "start-timeout=2s");
        var ran = await Install.AppoxyAsync("deploy", "loud", "--git", repository.Url, "--ref", "main");
        Assert.Equal(1, ran.ExitCode);
        Assert.Contains("did not open port", ran.Error, StringComparison.Ordinal);
        Assert.InRange(ran.Output.Length, 1 << 20, 20 << 20);
        Assert.Contains("-----> Starting", ran.Output, StringComparison.Ordinal);
        var status = await File.ReadAllTextAsync($"/proc/{Install.ServicePid("droidd")}/status");
        var peak = int.Parse(System.Text.RegularExpressions.Regex.Match(status, @"VmHWM:\s+(\d+) kB").Groups[1].Value, System.Globalization.CultureInfo.InvariantCulture);
        Assert.True(peak < 500_000, $"droidd took {peak} kB");
        await Install.MustAsync("apps", "destroy", "loud", "--confirm", "loud");
    }

    [Fact]
    public async Task Submodule_with_a_relative_address_is_fetched()
    {
        var module = await Install.RepositoryOfAsync("silent", "module");
        var repository = await Install.RepositoryOfAsync("silent", "with-module");
        await repository.GitAsync("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../module", "module");
        await repository.ReplaceAsync("Dockerfile", "USER nobody", "COPY module/Dockerfile /seen\nRUN wc -l /seen\nUSER nobody");
        Assert.True(Directory.Exists(module.Folder));
        await Install.MustAsync("apps", "create", "modular");
        await Install.MustAsync("settings", "modular", "start-timeout=2s");
        var ran = await Install.AppoxyAsync("deploy", "modular", "--git", repository.Url, "--ref", "main");
        Assert.Contains("\n3 /seen", ran.Output, StringComparison.Ordinal);
        Assert.Contains("did not open port", ran.Error, StringComparison.Ordinal);
        await Install.MustAsync("apps", "destroy", "modular", "--confirm", "modular");
    }

    [Fact]
    public async Task Unknown_ref_fails_and_says_so()
    {
        var ran = await Install.AppoxyAsync("deploy", "shop", "--git", Shop.Repository.Url, "--ref", "no-such-branch");
        Assert.Equal(1, ran.ExitCode);
        Assert.Contains("no-such-branch", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Destroyed_app_leaves_nothing_behind()
    {
        await Install.MustAsync("apps", "create", "gone");
        await Install.MustAsync("deploy", "gone", "--image", "appoxy/" + (await Install.DroidAsync("hello")).Uid + ":1");
        var uid = (await Install.DroidAsync("gone")).Uid;
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync("gone.localhost")).Status);
        await Install.MustAsync("apps", "destroy", "gone", "--confirm", "gone");
        await Install.EventuallyAsync(async () => (await Install.GetAsync("gone.localhost")).Status == HttpStatusCode.NotFound, TimeSpan.FromSeconds(2));
        await Install.EventuallyAsync(async () => (await Install.DockerAsync("ps", "-aq", "--filter", $"label=appoxy.uid={uid}")).Output == "",
            TimeSpan.FromSeconds(15));
        Assert.Equal("", (await Install.DockerAsync("images", "-q", $"appoxy/{uid}")).Output);
    }
}
