using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy route</c>: why a host leads where it leads.</summary>
internal static class Route
{
    public static Verb Define()
    {
        var host = Arguments.Hostname(allowWildcard: false);
        return new Verb("route", "Explains, step by step, where a host leads and who says so.", "appoxy route shop.localhost") { host }
            .Does(async (call, cancel) =>
            {
                var path = $"v1/routes/{Uri.EscapeDataString(Arguments.Host(call.Get(host)))}";
                var route = await call.Routerd.GetAsync<RouteExplanation>(path, cancel);
                if (call.Json)
                {
                    Output.Json(route.Json);
                    return;
                }
                Output.Line(Output.OneLine($"{route.Value.Host}: {route.Value.Outcome}"));
                Output.Table(route.Value.Steps, ("SOURCE", s => s.Source), ("FOUND", s => s.Found), ("NOTE", s => s.Note));
            });
    }
}
