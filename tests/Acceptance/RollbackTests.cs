using System.Diagnostics;
using System.Net;
using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

[Collection(Alone.Name)]
public sealed class RollbackTests(Install install)
{
    [Fact]
    public async Task Rollback_brings_the_version_before_back_in_seconds_and_without_a_failed_request()
    {
        await install.MustAsync("apps", "create", "versions");
        var nothing = await install.AppoxyAsync("rollback", "versions");
        Assert.Equal(1, nothing.ExitCode);
        Assert.Contains("nothing live", nothing.Error, StringComparison.Ordinal);
        var folder = new Folder(install, "folder", "versions");
        await install.MustAsync("deploy", "versions", folder.Path);
        var first = await install.AppoxyAsync("rollback", "versions");
        Assert.Contains("no version before", first.Error, StringComparison.Ordinal);
        await install.MustAsync("deploy", "versions", folder.Write("version.txt", "2\n").Path);
        await install.MustAsync("env", "set", "versions", "MOOD=new");
        await Install.EventuallyAsync(async () => (await install.GetAsync("versions.localhost", "/env/MOOD")).Body == "new", TimeSpan.FromSeconds(30));

        await using var load = new Load(install, "versions.localhost");
        var took = Stopwatch.StartNew();
        var log = await install.MustAsync("rollback", "versions");
        Assert.Equal("1\n", (await install.GetAsync("versions.localhost")).Body);
        Assert.True(took.Elapsed < TimeSpan.FromSeconds(3), $"the rollback took {took.Elapsed}");
        Assert.DoesNotContain("Step 1", log, StringComparison.Ordinal);
        // The environment is that of now.
        Assert.Equal("new", (await install.GetAsync("versions.localhost", "/env/MOOD")).Body);
        var newest = JsonDocument.Parse(await install.MustAsync("deployments", "versions", "--json")).RootElement[0];
        Assert.Equal((3, 1), (newest.GetProperty("number").GetInt32(), newest.GetProperty("rollbackTo").GetInt32()));

        // Once more leads forward again, to what was live before.
        await install.MustAsync("rollback", "versions");
        Assert.Equal("2\n", (await install.GetAsync("versions.localhost")).Body);
        await load.EndAsync(atLeast: 50);

        // Two versions later the first one is not kept any more; a failed deployment in between does not take its predecessor's place.
        await install.MustAsync("deploy", "versions", folder.Write("version.txt", "3\n").Path);
        folder.Write("Dockerfile", "FROM appoxy-test/node:18\nCMD [\"false\"]\n");
        Assert.Equal(1, (await install.AppoxyAsync("deploy", "versions", folder.Path)).ExitCode);
        await Install.EventuallyAsync(async () => (await install.AppoxyAsync("rollback", "versions", "1")) is { ExitCode: 1 } gone
            && gone.Error.Contains("image of deployment 1 is not kept any more", StringComparison.Ordinal), TimeSpan.FromSeconds(60));
        await install.MustAsync("rollback", "versions");
        Assert.Equal("2\n", (await install.GetAsync("versions.localhost")).Body);
        var unknown = await install.AppoxyAsync("rollback", "versions", "99");
        Assert.Contains("no deployment 99", unknown.Error, StringComparison.Ordinal);
        await install.MustAsync("apps", "destroy", "versions", "--confirm", "versions");
    }
}
