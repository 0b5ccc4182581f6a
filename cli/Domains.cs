using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy domains</c>: the hostnames that an app is served at.</summary>
internal static class Domains
{
    public static Command Define() => new("domains", "Lists, adds and removes the hostnames of an app.") { List(), Add(), Remove() };

    private static Verb List()
    {
        var name = Arguments.App();
        return new Verb("list", "Lists an app's hostnames.", "appoxy domains list shop") { name }.Does(async (call, cancel) =>
        {
            var domains = await call.Routerd.ListAsync<Domain>(Routerd.App(call.Get(name), "domains"), cancel);
            if (call.Json)
                Output.Json(domains.Items);
            else
                Output.Table(domains.Value.Items, ("HOST", d => d.Hostname), ("CREATED", d => Output.Ago(d.CreatedAt)));
        });
    }

    private static Verb Add()
    {
        var (name, host) = (Arguments.App(), Arguments.Hostname(allowWildcard: true));
        return new Verb("add", "Serves an app at one more hostname.", "appoxy domains add shop www.example.com") { name, host }
            .Does(async (call, cancel) =>
            {
                var added = await call.Routerd.PostAsync<NewDomain, Domain>(
                    Routerd.App(call.Get(name), "domains"), new NewDomain(Arguments.Host(call.Get(host))), cancel);
                if (call.Json)
                    Output.Json(added.Json);
                else
                    Output.Line($"{added.Value.Hostname} leads to {call.Get(name)}");
            });
    }

    private static Verb Remove()
    {
        var (name, host) = (Arguments.App(), Arguments.Hostname(allowWildcard: true));
        return new Verb("remove", "Serves an app no longer at a hostname.", "appoxy domains remove shop www.example.com") { name, host }
            .Does(async (call, cancel) =>
            {
                var hostname = Arguments.Host(call.Get(host));
                await call.Routerd.DeleteAsync(Routerd.App(call.Get(name), $"domains/{Uri.EscapeDataString(hostname)}"), cancel);
                if (call.Json)
                    Output.Json(json =>
                    {
                        json.WriteStartObject();
                        json.WriteString("removed", hostname);
                        json.WriteEndObject();
                    });
                else
                    Output.Line($"{hostname} leads to {call.Get(name)} no more");
            });
    }
}
