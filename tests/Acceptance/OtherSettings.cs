using System.Text.Json.Nodes;

namespace Appoxy.Tests;

/// <summary>Other settings for a while.</summary>
internal static class OtherSettings
{
    /// <summary>Runs <paramref name="act"/> with other settings of droidd.</summary>
    public static async Task WithSettingsAsync(this Install install, Action<JsonObject> change, Func<Task> act)
    {
        var path = Path.Combine(install.Prefix, "etc/appoxy/droidd.local.json");
        var before = await File.ReadAllTextAsync(path);
        var settings = JsonNode.Parse(before)!.AsObject();
        change(settings);
        try
        {
            await WriteAsync(settings.ToJsonString());
            await act();
        }
        finally
        {
            await WriteAsync(before);
        }

        async Task WriteAsync(string text)
        {
            await File.WriteAllTextAsync(path, text);
            await install.RestartAsync("droidd");
            using var droidd = LocalHttp.For($"unix:{install.Prefix}/run/appoxy/droidd.sock", TimeSpan.FromSeconds(5));
            await Install.EventuallyAsync(async () =>
            {
                try
                {
                    using var ready = await droidd.GetAsync("server");
                    return ready.IsSuccessStatusCode;
                }
                catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
                {
                    return false;
                }
            }, TimeSpan.FromSeconds(30));
        }
    }
}
