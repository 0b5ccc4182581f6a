using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy secrets</c>: the keys that env, git passwords and the like are encrypted with in the database.</summary>
internal static class Secrets
{
    private const string Path = "v1/secrets/keys";

    public static Command Define() => new("secrets", "Shows and changes the keys that secrets are encrypted with.") { List(), Rotate(), Remove() };

    private static Verb List() => new Verb("list", "Lists the keys, and how many values each encrypts.", "appoxy secrets list").Does(async (call, cancel) =>
    {
        var keys = await call.Routerd.GetAsync<Page<SecretKeyUse>>(Path, cancel);
        if (call.Json)
            Output.Json(keys.Items);
        else
            Output.Table(keys.Value.Items, ("KEY", k => k.Id), ("MADE", k => Output.Ago(k.MadeAt) ?? "not in the key file"), ("VALUES", k => $"{k.Values}"),
                ("ENCRYPTS", k => k.Newest ? "yes" : "no"));
    });

    private static Verb Rotate() => new Verb("rotate", "Adds a key; all values are encrypted anew with it, while everything goes on.",
        "appoxy secrets rotate").Does(async (call, cancel) =>
    {
        var key = await call.Routerd.PostAsync<SecretKeyUse>(Path, cancel);
        if (call.Json)
            Output.Json(key.Json);
        else
            Output.Line($"key {key.Value.Id} encrypts from now on; back up the key file, then see: appoxy secrets list");
    });

    private static Verb Remove()
    {
        var id = new Argument<string>("KEY") { Description = "The key's id" };
        return new Verb("remove", "Removes a key that encrypts nothing any more.", "appoxy secrets remove 0123456789abcdef") { id }
            .Does(async (call, cancel) =>
            {
                await call.Routerd.DeleteAsync($"{Path}/{Uri.EscapeDataString(call.Get(id))}", cancel);
                Removed.Print(call, call.Get(id), $"key {call.Get(id)} is removed");
            });
    }
}
