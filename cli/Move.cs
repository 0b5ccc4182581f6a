using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy move</c>: takes an app to another droid-server, and waits until it is there.</summary>
internal static class Move
{
    private static readonly TimeSpan Poll = TimeSpan.FromSeconds(1);

    public static Verb Define()
    {
        var name = Arguments.App();
        var server = Arguments.ServerOption("--server", "Where to; else where placement says");
        var with = new Option<bool>("--with-volumes") { Description = "Take its volumes along: it is stopped while they are copied" };
        var without = new Option<bool>("--without-volumes") { Description = "Give up what its volumes hold" };
        var detach = new Option<bool>("--detach") { Description = "Don't wait until it is there" };
        return new Verb("move", "Takes an app to another droid-server, without a request that fails.",
            "appoxy move shop", "appoxy move shop --server ds2", "appoxy move notes --server ds2 --with-volumes")
            { name, server, with, without, detach }
            .Does(async (call, cancel) =>
            {
                var app = call.Get(name);
                var volumes = call.Get(with) ? "copy" : call.Get(without) ? "lose" : "none";
                var move = await call.Routerd.PostAsync<NewMove, AppMove>(Routerd.App(app, "move"), new NewMove(call.Get(server), volumes), cancel);
                if (call.Get(detach))
                {
                    if (call.Json)
                        Output.Json(move.Json);
                    else
                        Output.Line($"{app} is on its way to {move.Value.To}");
                    return;
                }
                var there = await WaitAsync(call, app, cancel);
                if (there.Value.Server != move.Value.To)
                    throw new Failure(ExitCodes.Failed, $"{app} is on {there.Value.Server} still: {there.Value.Move?.Error ?? "its move was given up"}");
                if (call.Json)
                    Output.Json(there.Json);
                else
                    Output.Line($"{app} is on {there.Value.Server}");
            }, parsed => parsed.GetValue(with) && parsed.GetValue(without) ? "give one of --with-volumes and --without-volumes" : null);
    }

    private static async Task<Answer<App>> WaitAsync(Call call, string app, CancellationToken cancel)
    {
        for (string? told = null; ; )
        {
            var answer = await call.Routerd.GetAsync<App>(Routerd.App(app), cancel);
            if (answer.Value.Move is not { State: not "failed" } move)
                return answer;
            if (!call.Json && Words(move) is var words && words != told)
                Output.Note(told = words);
            await Task.Delay(Poll, cancel);
        }
    }

    /// <summary>An app's way in a few words.</summary>
    public static string Words(AppMove move) => (move.To is null ? "can't leave " + move.From : $"to {move.To}: {move.State}")
        + (move.State == "copying" && move.CopiedBytes is { } bytes ? $" ({bytes >> 20} MB)" : "") + (move.Error is null ? "" : $": {move.Error}");
}
