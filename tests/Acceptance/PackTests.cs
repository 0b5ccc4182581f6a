using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

/// <summary>Builds with buildpacks, by the stand-in for pack.</summary>
[Collection(SecondLane.Name)]
public sealed class PackTests(Install install)
{
    private const string ByPack = "label=author=pack";

    [Fact]
    public async Task App_without_a_Dockerfile_is_built_with_buildpacks_by_the_contract()
    {
        var app = await MakeAsync("pages");
        await install.MustAsync("env", "set", "pages", "COLOR=blue", "SECRET=hunter2 secret", "LINES=one\ntwo");
        var log = await install.MustAsync("deploy", "pages", app.Path);
        Assert.Contains("===> BUILDING", log, StringComparison.Ordinal);
        Assert.Contains("compiling, color is blue", log, StringComparison.Ordinal);
        Assert.Contains("Process types: web, worker", log, StringComparison.Ordinal);
        Assert.Contains("LINES has several lines", log, StringComparison.Ordinal);
        Assert.Equal("built with blue, 1 times\n", (await install.GetAsync("pages.localhost")).Body);
        Assert.Equal("one\ntwo", (await install.GetAsync("pages.localhost", "/env/LINES")).Body);

        var (uid, work) = await WorkAsync("pages", 1);
        Assert.Equal(
        [
            "build", $"appoxy/{uid}:build", "--path", work + "/source", "--builder", "appoxy-test/builder", "--env-file", work + "/build.env",
            "--pull-policy", "if-not-present",
            "--cache", $"type=build;format=volume;name=appoxy-cache-{uid}-build", "--cache", $"type=launch;format=volume;name=appoxy-cache-{uid}-launch",
            "--network", "droid-build", "--docker-host", install.Installed("docker_host"), "--default-process", "web", "--no-color",
        ], await CallAsync("build", uid));
        Assert.Equal("600 root\nCOLOR=blue\nSECRET=hunter2 secret\n", await File.ReadAllTextAsync(LogFile + ".env"));
        Assert.False(File.Exists(work + "/build.env"), "the env file is left behind");
        Assert.DoesNotContain("hunter2", log, StringComparison.Ordinal);
        var image = JsonDocument.Parse((await install.DockerAsync("image", "inspect", $"appoxy/{uid}:1")).Output).RootElement[0].GetProperty("Config");
        Assert.Equal("/cnb/process/web", image.GetProperty("Entrypoint")[0].GetString());
        Assert.Equal("1000:1000", image.GetProperty("User").GetString());
        await NothingIsLeftAsync();

        // Its other process types are run by the programs that the buildpacks have put there for them.
        await install.MustAsync("scale", "pages", "worker=1");
        var worker = (await install.DroidAsync("pages")).Processes.Single(p => p.Name == "worker.1");
        Assert.Equal(DroidStates.Running, worker.State);
        Assert.Equal("[/cnb/process/worker] []", (await install.DockerAsync("inspect", "-f", "{{.Config.Entrypoint}} {{.Config.Cmd}}", worker.Container!)).Output.Trim());
        await install.MustAsync("scale", "pages", "worker=0");

        // The next build finds what this one has kept, and the app's end removes it.
        app.Write("new.txt", "new");
        await install.MustAsync("deploy", "pages", app.Path);
        Assert.Equal("built with blue, 2 times\n", (await install.GetAsync("pages.localhost")).Body);
        Assert.NotEqual("", await VolumesAsync($"appoxy-cache-{uid}"));
        await install.MustAsync("apps", "destroy", "pages", "--confirm", "pages");
        await Install.EventuallyAsync(async () => await VolumesAsync($"appoxy-cache-{uid}") == ""
            && (await install.DockerAsync("images", "-q", $"appoxy/{uid}")).Output == "", TimeSpan.FromSeconds(30));
    }

    [Fact]
    public async Task Same_source_is_not_built_again_unless_something_of_its_build_changed()
    {
        var app = await MakeAsync("same");
        await install.MustAsync("deploy", "same", app.Path);
        var again = await install.MustAsync("deploy", "same", app.Path);
        Assert.Contains("Nothing has changed since deployment 1", again, StringComparison.Ordinal);
        Assert.DoesNotContain("===> BUILDING", again, StringComparison.Ordinal);
        Assert.Contains("===> BUILDING", await install.MustAsync("deploy", "same", app.Path, "--force"), StringComparison.Ordinal);
        // The build sees the environment.
        await install.MustAsync("env", "set", "same", "COLOR=red");
        await install.MustAsync("deploy", "same", app.Path);
        Assert.StartsWith("built with red", (await install.GetAsync("same.localhost")).Body, StringComparison.Ordinal);
        await install.MustAsync("apps", "destroy", "same", "--confirm", "same");
    }

    [Fact]
    public async Task Each_way_in_which_pack_can_fail_has_its_own_words_and_its_log_is_kept()
    {
        var app = await MakeAsync("fails");
        foreach (var (phase, code, reason, words) in new[]
        {
            ("detecting", 20, FailureReasons.NoBuilderFits, "no buildpack fits"),
            ("analyzing", 34, FailureReasons.Export, "previous image"),
            ("building", 51, FailureReasons.Build, "a buildpack's build failed"),
            ("exporting", 62, FailureReasons.Export, "storing its image failed"),
        })
        {
            await install.MustAsync("env", "set", "fails", $"PACK_STANDIN_CODE={phase}:{code}");
            await install.FailsAsync("fails", reason, words, $"failed with status code: {code}", app.Path);
        }
        await install.MustAsync("env", "unset", "fails", "PACK_STANDIN_CODE");
        app.Write("Procfile", "worker: sleep 3600\n");
        await install.FailsAsync("fails", FailureReasons.NoBuilderFits, "no process type web", "tried to set web to default", app.Path);
        app.Write("compile.sh", "echo broken on purpose; exit 3\n");
        await install.FailsAsync("fails", FailureReasons.Build, "a buildpack's build failed", "broken on purpose", app.Path);
        await install.FailsAsync("fails", FailureReasons.Builder, "can't get the builder appoxy-test/nowhere", "Pulling appoxy-test/nowhere",
            app.Path, "--builder", "pack:appoxy-test/nowhere");
        await install.FailsAsync("fails", FailureReasons.Build, "missing label", "missing label", app.Path, "--builder", "pack:appoxy-test/bookworm");
        await install.FailsAsync("fails", FailureReasons.NoBuilderFits, "no Dockerfile", "Building upload", app.Path, "--builder", "dockerfile");
        await NothingIsLeftAsync();
        await install.MustAsync("apps", "destroy", "fails", "--confirm", "fails");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Cancelled_build_stops_and_leaves_nothing_behind_even_if_pack_hears_no_signal(bool deaf)
    {
        var name = deaf ? "deaf" : "halted";
        var app = await MakeAsync(name);
        await install.MustAsync("env", "set", name, "PACK_STANDIN_SLEEP=300", $"PACK_STANDIN_DEAF={(deaf ? 1 : 0)}");
        var deploying = install.AppoxyAsync("deploy", name, app.Path);
        var building = await BuildingAsync();
        // The build runs within its limits.
        var limits = (await install.DockerAsync("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.CpuShares}}", building)).Output.Trim();
        Assert.Equal("1073741824 256", limits);
        await install.MustAsync("deployments", name, "--cancel", "1");
        var ran = await deploying.WaitAsync(TimeSpan.FromSeconds(60));
        Assert.Equal(1, ran.ExitCode);
        Assert.Contains("cancelled", ran.Error, StringComparison.Ordinal);
        Assert.Equal(DeploymentStates.Cancelled, (await install.NewestAsync(name)).GetProperty("state").GetString());
        await NothingIsLeftAsync();
        await install.MustAsync("apps", "destroy", name, "--confirm", name);
    }

    [Fact]
    public async Task Build_that_loses_its_droidd_is_done_again_and_leaves_nothing_behind()
    {
        var app = await MakeAsync("orphan");
        await install.MustAsync("env", "set", "orphan", "PACK_STANDIN_SLEEP=8");
        var deploying = install.AppoxyAsync("deploy", "orphan", app.Path);
        await BuildingAsync();
        using (var droidd = Process.GetProcessById(install.ServicePid("droidd")))
            droidd.Kill();
        var ran = await deploying.WaitAsync(TimeSpan.FromMinutes(2));
        Assert.True(ran.ExitCode == 0, ran.ToString());
        Assert.StartsWith("built with none", (await install.GetAsync("orphan.localhost")).Body, StringComparison.Ordinal);
        await NothingIsLeftAsync();
        await install.MustAsync("apps", "destroy", "orphan", "--confirm", "orphan");
    }

    [Fact]
    public async Task List_of_buildpacks_becomes_a_builder_on_the_stack_that_they_share()
    {
        var app = await MakeAsync("listed");
        // With a list of buildpacks, a Dockerfile does not count.
        app.Write("Dockerfile", "FROM appoxy-test/nowhere\n");
        await install.MustAsync("settings", "listed", "buildpacks=appoxy-test/by-stack,appoxy-test/by-target");
        var log = await install.MustAsync("deploy", "listed", app.Path);
        Assert.Contains("Buildpacks test/by-stack 1.0.0, test/by-target 2.1.0 on appoxy.test", log, StringComparison.Ordinal);
        Assert.StartsWith("built with", (await install.GetAsync("listed.localhost")).Body, StringComparison.Ordinal);
        var (uid, work) = await WorkAsync("listed", 1);
        Assert.Equal("""
            [[buildpacks]]
            uri = "docker://appoxy-test/by-stack"

            [[buildpacks]]
            uri = "docker://appoxy-test/by-target"

            [[order]]

            [[order.group]]
            id = "test/by-stack"
            version = "1.0.0"
            optional = false

            [[order.group]]
            id = "test/by-target"
            version = "2.1.0"
            optional = false

            [build]
            image = "appoxy-test/builder"

            [[run.images]]
            image = "appoxy-test/builder"

            """, await File.ReadAllTextAsync(work + "/builder.toml"));
        var builder = (await CallAsync("build", uid)).SkipWhile(a => a != "--builder").ElementAt(1);
        Assert.Equal(["builder", "create", builder, "--config", work + "/builder.toml", "--pull-policy", "if-not-present", "--no-color"],
            await CallAsync("builder", builder));
        // The same list has its builder already.
        app.Write("new.txt", "new");
        Assert.DoesNotContain("Making their builder", await install.MustAsync("deploy", "listed", app.Path), StringComparison.Ordinal);

        await install.MustAsync("settings", "listed", "buildpacks=appoxy-test/by-stack,appoxy-test/elsewhere");
        await install.FailsAsync("listed", FailureReasons.Builder, "no stack in common: test/by-stack runs on appoxy.test; test/elsewhere runs on none",
            "no stack", app.Path);
        await install.MustAsync("settings", "listed", "buildpacks=appoxy-test/bookworm");
        await install.FailsAsync("listed", FailureReasons.Builder, "appoxy-test/bookworm is no buildpack", "no buildpack", app.Path);
        await install.MustAsync("settings", "listed", "buildpacks=none");
        await install.MustAsync("apps", "destroy", "listed", "--confirm", "listed");
    }

    [Fact]
    public async Task Project_descriptor_is_given_to_pack_but_must_stay_in_the_folder()
    {
        var app = await MakeAsync("described");
        app.Write("project.toml", "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = \"appoxy-test/procfile\"\n");
        await install.MustAsync("deploy", "described", app.Path);
        var (uid, work) = await WorkAsync("described", 1);
        Assert.Equal(["--descriptor", work + "/source/project.toml"], (await CallAsync("build", uid)).SkipWhile(a => a != "--descriptor"));
        app.Write("project.toml", "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nuri = \"../../../spec.json\"\n");
        await install.FailsAsync("described", FailureReasons.Source, "leads out of the app's folder", "project.toml", app.Path);
        await install.MustAsync("apps", "destroy", "described", "--confirm", "described");
    }

    private string LogFile => Path.Combine(install.Prefix, "var/lib/appoxy/droids/.pack.log");

    private async Task<Folder> MakeAsync(string name)
    {
        await install.MustAsync("apps", "create", name);
        return new Folder(install, "pages", name);
    }

    /// <summary>The container in which a build is under way.</summary>
    private async Task<string> BuildingAsync()
    {
        var id = "";
        await Install.EventuallyAsync(async () =>
        {
            id = (await install.DockerAsync("ps", "-q", "--no-trunc", "--filter", ByPack, "--filter", "status=running",
                "--filter", "network=droid-build")).Output.Trim();
            return id.Length == 64 && (await install.DockerAsync("inspect", "-f", "{{.Args}} {{.HostConfig.Memory}}", id)).Output is var seen
                && seen.Contains("PACK_STANDIN_SLEEP", StringComparison.Ordinal) && !seen.Trim().EndsWith(" 0", StringComparison.Ordinal);
        }, TimeSpan.FromSeconds(60));
        return id;
    }

    private async Task NothingIsLeftAsync() => await Install.EventuallyAsync(async () =>
        (await install.DockerAsync("ps", "-aq", "--filter", ByPack)).Output == "" && await VolumesAsync("pack-layers-") + await VolumesAsync("pack-app-") == "",
        TimeSpan.FromSeconds(30));

    private async Task<string> VolumesAsync(string name) => (await install.DockerAsync("volume", "ls", "-q", "--filter", $"name={name}")).Output;

    private async Task<(string Uid, string Work)> WorkAsync(string app, int deployment)
    {
        var uid = (await install.DroidAsync(app)).Uid;
        return (uid, Path.Combine(install.Prefix, "var/lib/appoxy/droids", uid, "deployments", deployment.ToString(CultureInfo.InvariantCulture)));
    }

    /// <summary>The arguments of the newest call of pack that begin with a word and name an image.</summary>
    private async Task<string[]> CallAsync(string verb, string image) =>
        (await File.ReadAllTextAsync(LogFile)).Split("\n\n").Select(c => c.Split('\n', StringSplitOptions.RemoveEmptyEntries))
            .Last(c => c.Length > 2 && c[0] == verb && c.Take(3).Any(a => a.Contains(image, StringComparison.Ordinal)));
}
