using System.Net;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Appoxy.Tests.Acceptance;

/// <summary>What is collected of the disk, and what is not, with real images, volumes and builds.</summary>
[Collection(ThirdLane.Name)]
public sealed class GarbageTests(Install install)
{
    private const string Stranger = "abcdefg";
    private const string Pulled = "appoxy-test/pulled:1";

    [Fact]
    public async Task What_nothing_uses_is_collected_and_what_is_in_use_or_kept_or_of_others_is_not()
    {
        var pages = new Folder(install, "pages", "litter");
        await install.MustAsync("apps", "create", "litter");
        await install.MustAsync("deploy", "litter", pages.Path);
        await install.MustAsync("volumes", "create", "litter", "data", "/data");
        await install.MustAsync("deploy", "litter", pages.Write("new.txt", "new").Path);
        var uid = (await install.DroidAsync("litter")).Uid;
        Assert.Equal(2, (await VolumesAsync($"appoxy-cache-{uid}")).Length);

        // A build that fails leaves the layers of its steps, one that was killed its clone, an app that is gone its cache.
        var broken = new Folder(install, "folder", "broken").Write("Dockerfile", "FROM appoxy-test/node:18\nRUN echo litter > /litter\nRUN exit 3\n");
        var earlier = await LinesAsync("images", "-qf", "dangling=true");
        var failed = await install.AppoxyAsync("deploy", "litter", broken.Path, "--builder", "dockerfile");
        Assert.True(failed.ExitCode == 1, failed.ToString());
        var left = (await LinesAsync("images", "-qf", "dangling=true")).Except(earlier).ToList();
        Assert.NotEmpty(left);
        var clone = Path.Combine(install.Prefix, "var/lib/appoxy/droids", uid, "deployments/1/source");
        Directory.CreateDirectory(clone);
        await File.WriteAllBytesAsync(Path.Combine(clone, "file"), new byte[1 << 20]);
        await LinesAsync("volume", "create", $"appoxy-cache-{Stranger}-build");
        // What a killed dockerd leaves of a build's step, of ours and of another Appoxy on the same Docker.
        async Task StepAsync(string name, string owner) => await LinesAsync("create", "--name", name, "--label", $"appoxy.uid={Stranger}",
            "--label", $"appoxy.owner={owner}", "appoxy-test/node:18", "true");
        await StepAsync("step", Path.Combine(install.Prefix, "var/lib/appoxy/droids"));
        await StepAsync("others-step", "/elsewhere");
        // Of others on the same Docker, which nobody uses either.
        var context = Directory.CreateDirectory(Path.Combine(install.Prefix, "others")).FullName;
        await File.WriteAllTextAsync(Path.Combine(context, "Dockerfile"), "FROM appoxy-test/node:18\nRUN echo others > /others\n");
        var others = (await LinesAsync("build", "-q", context)).Single();
        await LinesAsync("volume", "create", "others");
        // What droidd has pulled it has noted; without a registry the note alone is not its own.
        await File.WriteAllTextAsync(Path.Combine(context, "Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n");
        await LinesAsync("build", "-q", "-t", Pulled, context);
        await install.ServiceAsync("droidd", "down");
        var notes = Path.Combine(install.Prefix, "var/lib/appoxy/droids/images.json");
        var noted = JsonNode.Parse(await File.ReadAllTextAsync(notes))!.AsObject();
        (noted[Pulled], noted["appoxy-test/node:18"]) = ("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00");
        await File.WriteAllTextAsync(notes, noted.ToJsonString());
        await install.ServiceAsync("droidd", "up");

        await install.WithSettingsAsync(settings => settings["collectAfter"] = "1s", async () =>
        {
            // By itself droidd looks at its start; not before that has it seen that an app is not here.
            await Task.Delay(TimeSpan.FromSeconds(2));
            await install.MustAsync("servers", "prune", "ds1");
            await Task.Delay(TimeSpan.FromSeconds(2));
            var done = JsonDocument.Parse(await install.MustAsync("servers", "prune", "ds1", "--json")).RootElement;
            Assert.False(done.TryGetProperty("busy", out var busy) && busy.GetBoolean());
            Assert.False(Directory.Exists(clone), "the clone of a build that is over is left");
            Assert.Empty(await VolumesAsync($"appoxy-cache-{Stranger}"));
            Assert.Empty(await VolumesAsync($"appoxy-cache-{uid}"));
            Assert.Empty(await LinesAsync("images", "-q", Pulled));
            Assert.NotEmpty(await LinesAsync("images", "-q", "appoxy-test/node"));
            var dangling = await LinesAsync("images", "-q", "--no-trunc", "-f", "dangling=true");
            Assert.DoesNotContain(dangling, d => left.Any(l => d.StartsWith("sha256:" + l, StringComparison.Ordinal)));
            Assert.Contains(others, dangling);
            Assert.Single(await VolumesAsync("others"));
            Assert.Single(await VolumesAsync("appoxy-volume-"));
            var info = await install.MustAsync("servers", "info", "ds1");
            Assert.Contains(" free", info, StringComparison.Ordinal);
            Assert.Matches(@"last collection +\d{4}-", info);
        });

        // The kept version serves again, and a build finds its way without what was collected.
        await install.MustAsync("rollback", "litter", "1");
        Assert.Equal(HttpStatusCode.OK, (await install.GetAsync("litter.localhost")).Status);
        await install.MustAsync("deploy", "litter", pages.Write("new.txt", "newer").Path);
        Assert.Equal(HttpStatusCode.OK, (await install.GetAsync("litter.localhost")).Status);

        // On a disk that is short it goes without being asked.
        await install.WithSettingsAsync(settings => (settings["collectAfter"], settings["diskPressure"]) = ("1s", "99%"), () =>
            Install.EventuallyAsync(async () => (await VolumesAsync($"appoxy-cache-{uid}")).Length == 0, TimeSpan.FromSeconds(60)));
        await Install.EventuallyAsync(async () => (await LinesAsync("ps", "-aqf", "name=^step$")).Length == 0, TimeSpan.FromSeconds(60));
        await LinesAsync("rm", "others-step");
        await install.MustAsync("apps", "destroy", "litter", "--confirm", "litter");
        await LinesAsync("volume", "rm", "others");
        await LinesAsync("rmi", others);
    }

    [Fact]
    public async Task Logs_of_old_builds_go_by_age_where_they_are_over_their_budget()
    {
        var folder = new Folder(install, "folder", "logs");
        await install.MustAsync("apps", "create", "logs");
        foreach (var version in new[] { "one", "two", "three" })
            await install.MustAsync("deploy", "logs", folder.Write("version.txt", version).Path);
        var uid = (await install.DroidAsync("logs")).Uid;
        string FileOf(int number) => Path.Combine(install.Prefix, $"var/lib/appoxy/droids/{uid}/deployments/{number}/build.out");
        Assert.True(File.Exists(FileOf(1)));
        await install.WithSettingsAsync(settings => settings["logBudget"] = "0", () =>
            Install.EventuallyAsync(() => Task.FromResult(!File.Exists(FileOf(1)) && !File.Exists(FileOf(2))), TimeSpan.FromSeconds(20)));
        Assert.True(File.Exists(FileOf(3)), "an app's newest log is gone");

        // routerd has copies, with a budget of its own.
        Assert.Contains("Live", await install.MustAsync("logs", "logs", "--build", "1"), StringComparison.Ordinal);
        var path = Path.Combine(install.Prefix, "etc/appoxy/routerd.json");
        var before = await File.ReadAllTextAsync(path);
        await File.WriteAllTextAsync(path, before.Replace("\"gitDir\"", "\"logBudget\": \"0\", \"gitDir\"", StringComparison.Ordinal));
        try
        {
            await install.RestartAsync("routerd");
            await Install.EventuallyAsync(async () => await install.SqlAsync($"select count(*) from deployment_logs where app_uid = '{uid}'") == "1",
                TimeSpan.FromSeconds(20));
        }
        finally
        {
            await File.WriteAllTextAsync(path, before);
            await install.RestartAsync("routerd");
        }
        await Install.EventuallyAsync(async () => (await install.AppoxyAsync("logs", "logs", "--build", "1")) is { ExitCode: 0 } log
            && log.Output.Contains("not kept any more", StringComparison.Ordinal), TimeSpan.FromSeconds(20));
        Assert.Contains("Live", await install.MustAsync("logs", "logs", "--build", "3"), StringComparison.Ordinal);
        await install.MustAsync("apps", "destroy", "logs", "--confirm", "logs");
    }

    private Task<string[]> VolumesAsync(string name) => LinesAsync("volume", "ls", "-qf", "name=" + name);

    private async Task<string[]> LinesAsync(params string[] arguments)
    {
        var ran = await install.DockerAsync(arguments);
        Assert.True(ran.ExitCode == 0, $"docker {string.Join(' ', arguments)}: {ran}");
        return ran.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }
}
