using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy templates</c>: what each nginx serves, and what is wrong with templates that it refused.</summary>
internal static class Templates
{
    public static Command Define() => new("templates", "Shows the state of the nginx templates.") { List() };

    private static Verb List() => new Verb("list",
        "Lists each nginx, which version of its templates serves, and what is wrong with a newer one.", "appoxy templates list")
        .Does(async (call, cancel) =>
        {
            var templates = await call.Routerd.GetAsync<Page<TemplateStatus>>("v1/templates", cancel);
            if (call.Json)
                Output.Json(templates.Items);
            else
                Output.Table(templates.Value.Items, ("NGINX", t => t.Nginx), ("VERSION", t => t.Version),
                    ("SINCE", t => Output.Ago(t.At)), ("FAULT", t => t.Error?.ToString()));
        });
}
