using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

/// <summary>Runs where the machine has the real pack, and a builder for it in APPOXY_TEST_BUILDER that knows node and the Procfile.</summary>
public sealed class RealPackFactAttribute : FactAttribute
{
    public static string Builder { get; } = Environment.GetEnvironmentVariable("APPOXY_TEST_BUILDER") ?? "";

    public static string? Pack { get; } = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':')
        .Select(folder => Path.Combine(folder, "pack")).FirstOrDefault(File.Exists);

    public RealPackFactAttribute()
    {
        if (Pack is null)
            Skip = "there is no pack on the PATH";
        else if (Builder.Length == 0)
            Skip = "APPOXY_TEST_BUILDER names no builder image for pack";
    }
}

/// <summary>What the tests with the stand-in ask of pack, asked of the real one.</summary>
[Collection(SecondLane.Name)]
public sealed class RealPackTests(Install install) : IAsyncLifetime
{
    public Task InitializeAsync() => RealPackFactAttribute.Pack is { } pack && RealPackFactAttribute.Builder.Length > 0
        ? UseAsync($$"""{ "pack": "{{pack}}", "defaultBuilder": "{{RealPackFactAttribute.Builder}}", "builds": "1" }""") : Task.CompletedTask;

    public async Task DisposeAsync()
    {
        if (RealPackFactAttribute.Pack is null || RealPackFactAttribute.Builder.Length == 0)
            return;
        await BaseImages.WriteSettingsAsync(install);
        await RestartAsync();
    }

    [RealPackFact]
    public async Task Real_pack_builds_an_app_and_tells_when_no_buildpack_fits()
    {
        await install.MustAsync("apps", "create", "real");
        var app = new Folder(install, "pages", "real").Write("built.txt", "really").Write("package.json", """{"name":"real","version":"1.0.0","private":true}""");
        await install.MustAsync("env", "set", "real", "COLOR=blue");
        var log = await install.MustAsync("deploy", "real", app.Path);
        Assert.Contains("Process types: ", log, StringComparison.Ordinal);
        Assert.NotEqual("", (await install.GetAsync("real.localhost")).Body);
        var uid = (await install.DroidAsync("real")).Uid;
        var image = JsonDocument.Parse((await install.DockerAsync("image", "inspect", $"appoxy/{uid}:1")).Output).RootElement[0].GetProperty("Config");
        Assert.Equal("/cnb/process/web", image.GetProperty("Entrypoint")[0].GetString());
        Assert.Contains("web", image.GetProperty("Labels").GetProperty("io.buildpacks.build.metadata").GetString(), StringComparison.Ordinal);
        Assert.Contains("runImage", image.GetProperty("Labels").GetProperty("io.buildpacks.lifecycle.metadata").GetString(), StringComparison.Ordinal);
        Assert.Contains($"appoxy-cache-{uid}-build", (await install.DockerAsync("volume", "ls", "-q")).Output, StringComparison.Ordinal);

        var text = Directory.CreateDirectory(Path.Combine(install.Prefix, "folders/text")).FullName;
        await File.WriteAllTextAsync(Path.Combine(text, "notes.txt"), "nothing to build");
        var ran = await install.AppoxyAsync("deploy", "real", text);
        Assert.Equal(1, ran.ExitCode);
        Assert.Contains("no buildpack fits", ran.Error, StringComparison.Ordinal);
        Assert.Contains("failed with status code: 2", ran.Output, StringComparison.Ordinal);
        Assert.Equal("", (await install.DockerAsync("ps", "-aq", "--filter", "label=author=pack")).Output);
        Assert.DoesNotContain("pack-layers-", (await install.DockerAsync("volume", "ls", "-q")).Output, StringComparison.Ordinal);
        await install.MustAsync("apps", "destroy", "real", "--confirm", "real");
    }

    private async Task UseAsync(string settings)
    {
        await File.WriteAllTextAsync(Path.Combine(install.Prefix, "etc/appoxy/droidd.local.json"), settings);
        await RestartAsync();
    }

    private async Task RestartAsync()
    {
        await install.ServiceAsync("droidd", "down");
        await install.ServiceAsync("droidd", "up");
        await Install.EventuallyAsync(async () => (await install.DroidAsync("hello")).Live is not null, TimeSpan.FromSeconds(30));
    }
}
