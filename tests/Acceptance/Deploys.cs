using System.Text.Json;

namespace Appoxy.Tests;

/// <summary>What deployments came to.</summary>
internal static class Deploys
{
    /// <summary>The newest deployment of an app, as the CLI tells it.</summary>
    public static async Task<JsonElement> NewestAsync(this Install install, string app) =>
        JsonDocument.Parse(await install.MustAsync("deployments", app, "--json")).RootElement[0].Clone();

    /// <summary>Deploys, which fails for a reason, says so in <paramref name="words"/>, and leaves a log with <paramref name="logged"/> in it.</summary>
    public static async Task FailsAsync(this Install install, string app, string reason, string words, string logged, params string[] what)
    {
        var ran = await install.AppoxyAsync(["deploy", app, .. what]);
        Assert.True(ran.ExitCode == 1, ran.ToString());
        Assert.Contains(words, ran.Error, StringComparison.Ordinal);
        var newest = await install.NewestAsync(app);
        Assert.Equal(DeploymentStates.Failed, newest.GetProperty("state").GetString());
        Assert.Equal(reason, newest.GetProperty("reason").GetString());
        Assert.Contains(words, newest.GetProperty("error").GetString(), StringComparison.Ordinal);
        var log = await install.MustAsync("logs", app, "--build", newest.GetProperty("number").ToString());
        Assert.Contains(logged, log, StringComparison.Ordinal);
    }
}
