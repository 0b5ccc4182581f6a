using System.CommandLine;
using System.Text.Json;

namespace Appoxy.Cli;

/// <summary><c>appoxy deploy</c>: brings a new version of an app to its visitors, shows its log, and waits for the outcome.</summary>
internal static class Deploy
{
    private static readonly Option<string?> Git = new("--git") { Description = "A git repository to build", HelpName = "URL" };
    private static readonly Option<string?> Ref = new("--ref") { Description = "The branch, tag or commit to build", HelpName = "REF" };
    private static readonly Option<string?> Image = new("--image") { Description = "A prebuilt image to run", HelpName = "IMAGE" };
    private static readonly Option<string?> Builder = new("--builder") { Description = "auto, dockerfile or pack:IMAGE", HelpName = "B" };

    public static Verb Define()
    {
        var name = Arguments.App();
        return new Verb("deploy", "Deploys an app, shows the log of it, and waits: exit code 0 means that it is live.",
            "appoxy deploy shop --git https://github.com/acme/shop --ref main", "appoxy deploy shop --image ghcr.io/acme/shop:3")
        {
            name, Git, Ref, Image, Builder,
        }.Does((call, cancel) => RunAsync(call, call.Get(name), cancel), Fault);
    }

    private static string? Fault(ParseResult parsed)
    {
        var (git, image, builder) = (parsed.GetValue(Git), parsed.GetValue(Image), parsed.GetValue(Builder));
        return (git, image) switch
        {
            (null, null) => "say what to deploy: --git URL or --image IMAGE",
            (not null, not null) => "give one of --git and --image, not both",
            _ when string.IsNullOrWhiteSpace(git ?? image) => $"{(git is null ? "--image" : "--git")} is empty",
            (null, _) when parsed.GetValue(Ref) is not null => "--ref goes with --git",
            _ => builder is null or "auto" or "dockerfile" || (builder.StartsWith("pack:", StringComparison.Ordinal) && builder.Length > 5)
                ? null
                : $"--builder is '{builder}': give auto, dockerfile or pack:IMAGE",
        };
    }

    private static async Task RunAsync(Call call, string app, CancellationToken cancel)
    {
        var source = new DroidSource
        {
            Git = call.Get(Git) is { } url ? new GitSource(url, call.Get(Ref)) : null,
            Image = call.Get(Image),
        };
        int? number = null;
        try
        {
            var started = await call.Routerd.PostAsync<NewDeployment, Deployment>(
                Routerd.App(app, "deployments"), new NewDeployment(source, call.Get(Builder)), cancel);
            number = started.Value.Number;
            var watch = new DeploymentWatch(call.Routerd, app, number.Value, call.Json ? Console.Error.WriteLine : Output.Line);
            var ended = await watch.UntilFinalAsync(cancel);
            var at = await watch.AskAsync<App>(Routerd.App(app), cancel);
            if (call.Json)
                Print(ended.Json, app, at.Value.Url);
            if (ended.Value.State != DeploymentStates.Live)
                throw new Failure(ExitCodes.Failed, Reason(app, ended.Value));
            if (!call.Json)
                Output.Line(at.Value.Url);
        }
        catch (OperationCanceledException) when (cancel.IsCancellationRequested)
        {
            throw new Failure(ExitCodes.Interrupted, number is null
                ? $"stopped before Appoxy had answered; whether a deployment began shows: appoxy deployments {app}"
                : $"stopped watching; deployment {number} goes on. To watch it: appoxy logs {app} --build {number} -f; "
                    + $"to cancel it: appoxy deployments {app} --cancel {number}");
        }
    }

    private static string Reason(string app, Deployment ended) => ended.State == DeploymentStates.Cancelled
        ? $"deployment {ended.Number} of {app} was cancelled"
        : $"deployment {ended.Number} of {app} failed: {ended.Error ?? "its log says why"}";

    /// <summary>The deployment as the API tells it, with the app's name and URL.</summary>
    private static void Print(JsonElement deployment, string app, string url) => Output.Json(json =>
    {
        json.WriteStartObject();
        json.WriteString("app", app);
        json.WriteString("url", url);
        foreach (var member in deployment.EnumerateObject())
            if (member.Name is not ("app" or "url"))
                member.WriteTo(json);
        json.WriteEndObject();
    });
}
