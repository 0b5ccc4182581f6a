using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

[Collection(SecondLane.Name)]
public sealed class BuildQueueTests(Install install)
{
    [Fact]
    public async Task Builds_wait_for_their_turn_tell_how_many_come_first_and_can_be_cancelled_meanwhile()
    {
        var deploys = new List<Task<Ran>>();
        foreach (var name in new[] { "first", "second", "third" })
        {
            await install.MustAsync("apps", "create", name);
            // The first one takes longer than a busy machine needs to get the others in line, and to cancel one.
            await install.MustAsync("env", "set", name, $"PACK_STANDIN_SLEEP={(name == "first" ? 15 : 1)}");
            deploys.Add(install.AppoxyAsync("deploy", name, new Folder(install, "pages", name).Path));
            var place = deploys.Count - 1;
            await Install.EventuallyAsync(async () => await NewestAsync(name) is { } newest
                && (place == 0 ? newest.GetProperty("state").GetString() == DeploymentStates.Building
                    : newest.TryGetProperty("ahead", out var ahead) && ahead.GetInt32() == place), TimeSpan.FromSeconds(60));
        }
        // A roll-back or a prebuilt image needs no build, and so no place.
        await install.MustAsync("apps", "create", "prebuilt");
        await install.MustAsync("deploy", "prebuilt", "--image", "appoxy/" + (await install.DroidAsync("hello")).Uid + ":1");
        await install.MustAsync("deployments", "second", "--cancel", "1");
        var second = await deploys[1].WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Contains("cancelled", second.Error, StringComparison.Ordinal);
        Assert.Contains("1 build comes first", second.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("ANALYZING", second.Output, StringComparison.Ordinal);
        Assert.False(deploys[0].IsCompleted, "the first build was over too soon to tell");
        Assert.Equal(0, (await deploys[0]).ExitCode);
        var third = await deploys[2];
        Assert.True(third.ExitCode == 0, third.ToString());
        Assert.Contains("2 builds come first", third.Output, StringComparison.Ordinal);
        Assert.Contains("1 build comes first", third.Output, StringComparison.Ordinal);
        foreach (var name in new[] { "first", "second", "third", "prebuilt" })
            await install.MustAsync("apps", "destroy", name, "--confirm", name);
    }

    private async Task<JsonElement?> NewestAsync(string app)
    {
        var all = JsonDocument.Parse(await install.MustAsync("deployments", app, "--json")).RootElement;
        return all.GetArrayLength() == 0 ? null : all[0];
    }
}
