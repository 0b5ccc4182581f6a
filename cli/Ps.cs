using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy ps</c>: what runs, sleeps or has failed.</summary>
internal static class Ps
{
    public static Verb Define()
    {
        var name = Arguments.OptionalApp();
        return new Verb("ps", "Shows the state of one app, or of all.", "appoxy ps", "appoxy ps shop --json") { name }
            .Does(async (call, cancel) =>
            {
                var droids = call.Get(name) is { } app
                    ? await call.Routerd.GetAsync<Page<DroidStatus>>(Routerd.App(app, "droids"), cancel)
                    : await call.Routerd.ListAsync<DroidStatus>("v1/droids", cancel);
                if (call.Json)
                    Output.Json(droids.Items);
                else
                    Output.Table(droids.Value.Items, ("APP", d => d.App), ("STATE", d => d.State), ("MOVES", d => d.Move is { } move ? Move.Words(move) : null), ("DEPLOYMENT", DeploymentOf),
                        ("ADDRESS", d => d.Live?.Address), ("REQUESTS", d => d.InFlight.ToString()), ("WAKES IN", d => WakesIn(d.WakesIn)),
                        ("LAST REQUEST", d => Output.Ago(d.LastRequestAt)), ("ERROR", d => d.Error ?? d.Deployment?.Error));
                if (call.Json || call.Get(name) is null || droids.Value.Items is not [{ Processes: { Count: > 0 } processes, Types: var types }])
                    return;
                Output.Line("");
                Output.Table(processes, ("PROCESS", p => p.Name), ("STATE", p => p.State), ("SINCE", p => Output.Ago(p.Since)),
                    ("RESTARTS", p => p.Restarts.ToString()), ("ADDRESS", p => p.Address),
                    ("COMMAND", p => types.FirstOrDefault(t => p.Name.StartsWith(t.Type + ".", StringComparison.Ordinal))?.Command),
                    ("ERROR", p => p.Error));
            });
    }

    private static string? WakesIn(double? seconds) => seconds is { } s ? $"≈ {Math.Max(s, 0.1):0.#} s" : null;

    /// <summary>The deployment that serves, and a newer one that does not (yet).</summary>
    private static string? DeploymentOf(DroidStatus droid) => (droid.Live, droid.Deployment) switch
    {
        ({ } live, { } newest) when newest.Number != live.Deployment => $"{live.Deployment} ({newest.Number} {newest.State})",
        ({ } live, _) => live.Deployment.ToString(),
        (null, { } newest) => $"({newest.Number} {newest.State})",
        _ => null,
    };
}
