using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy start|stop|restart|snooze|wake</c>: each waits until it is so.</summary>
internal static class DroidActions
{
    /// <param name="action">The verb, and the last part of the API's path.</param>
    /// <param name="description">For <c>--help</c>.</param>
    public static Verb Define(string action, string description)
    {
        var name = Arguments.App();
        return new Verb(action, description, $"appoxy {action} shop") { name }.Does(async (call, cancel) =>
        {
            var droid = await call.Routerd.PostAsync<DroidStatus>(Routerd.App(call.Get(name), action), cancel, Routerd.DroidPatience);
            if (call.Json)
                Output.Json(droid.Json);
            var (app, state) = (droid.Value.App, droid.Value.State);
            if (state is DroidStates.Crashed or DroidStates.Failed)
                throw new Failure(ExitCodes.Failed, $"{app} has {state}: {droid.Value.Error ?? "its log says why"}");
            if (!call.Json)
                Output.Line($"{app} is {state}");
        });
    }
}
