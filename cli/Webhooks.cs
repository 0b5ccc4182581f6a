using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy webhook</c>: lets pushes to GitHub, GitLab or Gitea deploy an app.</summary>
internal static class Webhooks
{
    public static Command Define() => new("webhook", "Lets pushes to GitHub, GitLab or Gitea deploy an app.") { Create(), List(), Remove() };

    private static Verb Create()
    {
        var name = Arguments.App();
        var git = new Option<string?>("--git") { Description = "The repository; else that of the newest deployment from git", HelpName = "URL" };
        var branch = new Option<string?>("--branch") { Description = "The branch whose pushes deploy; else main", HelpName = "BRANCH" };
        return new Verb("create", "Makes a webhook and prints its URL and, once, its secret.",
            "appoxy webhook create shop", "appoxy webhook create shop --git https://github.com/acme/shop --branch release") { name, git, branch }
            .Does(async (call, cancel) =>
            {
                var made = await call.Routerd.PostAsync<NewWebhook, Webhook>(
                    Routerd.App(call.Get(name), "webhooks"), new NewWebhook(call.Get(git), call.Get(branch)), cancel);
                if (call.Json)
                    Output.Json(made.Json);
                else
                    Output.Pairs([("id", made.Value.Id), ("url", made.Value.Url), ("secret", made.Value.Secret), ("source", made.Value.Source),
                        ("branch", made.Value.Branch)]);
            });
    }

    private static Verb List()
    {
        var name = Arguments.App();
        return new Verb("list", "Lists an app's webhooks and what became of their last delivery.", "appoxy webhook list shop") { name }
            .Does(async (call, cancel) =>
            {
                var all = await call.Routerd.GetAsync<Page<Webhook>>(Routerd.App(call.Get(name), "webhooks"), cancel);
                if (call.Json)
                    Output.Json(all.Items);
                else
                    Output.Table(all.Value.Items, ("ID", w => w.Id), ("BRANCH", w => w.Branch), ("LAST", w => Output.Ago(w.LastAt)),
                        ("SOURCE", w => w.Source), ("RESULT", w => w.LastResult));
            });
    }

    private static Verb Remove()
    {
        var name = Arguments.App();
        var id = new Argument<string>("ID") { Description = "The webhook's id" };
        return new Verb("remove", "Removes a webhook.", "appoxy webhook remove shop k3v…") { name, id }.Does(async (call, cancel) =>
        {
            await call.Routerd.DeleteAsync(Routerd.App(call.Get(name), $"webhooks/{Uri.EscapeDataString(call.Get(id))}"), cancel);
            Removed.Print(call, call.Get(id), $"webhook {call.Get(id)} of {call.Get(name)} is removed");
        });
    }
}
