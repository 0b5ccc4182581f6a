using System.CommandLine;
using System.Text.Json;

namespace Appoxy.Cli;

/// <summary><c>appoxy deploy</c>: brings a new version of an app to its visitors, shows its log, and waits for the outcome.</summary>
internal static class Deploy
{
    /// <summary>Bytes between two signs of progress.</summary>
    private const long ProgressStep = 256 << 10;
    private static readonly Option<string?> Git = new("--git") { Description = "A git repository to build", HelpName = "URL" };
    private static readonly Option<string?> Ref = new("--ref") { Description = "The branch, tag or commit to build", HelpName = "REF" };
    private static readonly Option<string?> Image = new("--image") { Description = "A prebuilt image to run", HelpName = "IMAGE" };
    private static readonly Option<bool> NoGitIgnore = new("--no-gitignore") { Description = "Upload what .gitignore names, too" };
    private static readonly Option<bool> Force = new("--force") { Description = "Build even if nothing has changed" };
    private static readonly Argument<string?> Folder = new("DIR")
    {
        Description = "A folder to upload and build", Arity = ArgumentArity.ZeroOrOne,
    };
    private static readonly Option<string?> Builder = new("--builder") { Description = "auto, dockerfile or pack:IMAGE", HelpName = "B" };

    public static Verb Define()
    {
        var name = Arguments.App();
        return new Verb("deploy", "Deploys an app, shows the log of it, and waits: exit code 0 means that it is live.",
            "appoxy deploy shop .", "appoxy deploy shop --git https://github.com/acme/shop --ref main",
            "appoxy deploy shop --image ghcr.io/acme/shop:3")
        {
            name, Folder, Git, Ref, Image, Builder, Force, NoGitIgnore,
        }.Does((call, cancel) => RunAsync(call, call.Get(name), cancel), Fault);
    }

    private static string? Fault(ParseResult parsed)
    {
        var (folder, git, image, builder) = (parsed.GetValue(Folder), parsed.GetValue(Git), parsed.GetValue(Image), parsed.GetValue(Builder));
        return (folder, git, image) switch
        {
            (null, null, null) when AppFile.Nearest() is null => "say what to deploy: DIR, --git URL or --image IMAGE",
            (null, not null, not null) or (not null, not null, _) or (not null, _, not null) => "give one of DIR, --git and --image",
            not (null, null, null) when string.IsNullOrWhiteSpace(folder ?? git ?? image) => $"{(folder is not null ? "DIR" : git is null ? "--image" : "--git")} is empty",
            (_, null, _) when parsed.GetValue(Ref) is not null => "--ref goes with --git",
            (null, _, _) when parsed.GetValue(NoGitIgnore) => "--no-gitignore goes with DIR",
            _ when folder is not null && Arguments.UnknownOption(folder) is { } fault => fault,
            _ => builder is null or "auto" or "dockerfile" || (builder.StartsWith("pack:", StringComparison.Ordinal) && builder.Length > 5)
                ? null
                : $"--builder is '{builder}': give auto, dockerfile or pack:IMAGE",
        };
    }

    private static Task RunAsync(Call call, string app, CancellationToken cancel) => FollowAsync(call, app, async () =>
    {
        // A folder that names its app is deployed where nothing else is said.
        var folder = call.Get(Folder) ?? (call.Get(Git) ?? call.Get(Image)) switch { null => AppFile.Nearest()!.Folder, _ => null };
        var file = folder is null ? null : AppFile.Of(folder);
        if (file is not null)
            await file.ApplyAsync(call.Routerd, app, cancel);
        var source = new DroidSource
        {
            Git = call.Get(Git) is { } url ? new GitSource(url, call.Get(Ref)) : null,
            Upload = folder is not null ? await UploadAsync(call, app, folder, cancel) : null,
            Image = call.Get(Image),
        };
        return await call.Routerd.PostAsync<NewDeployment, Deployment>(Routerd.App(app, "deployments"),
            new NewDeployment(source, call.Get(Builder) ?? file?.Builder, call.Get(Force) ? true : null), cancel);
    }, cancel);

    /// <summary>Begins a deployment, shows its log and waits for its end.</summary>
    public static async Task FollowAsync(Call call, string app, Func<Task<Answer<Deployment>>> begin, CancellationToken cancel)
    {
        int? number = null;
        try
        {
            var started = await begin();
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

    /// <summary>Sends a folder, telling a terminal how far it is; the upload's id.</summary>
    private static async Task<string> UploadAsync(Call call, string app, string folder, CancellationToken cancel)
    {
        var shown = 0L;
        var live = !Console.IsErrorRedirected;
        using var content = await FolderUpload.OfAsync(folder, useGit: !call.Get(NoGitIgnore), sent =>
        {
            if (!live || sent - shown < ProgressStep)
                return;
            shown = sent;
            Console.Error.Write($"\rUploading … {Size(sent)} ");
        }, cancel);
        var files = content.Files;
        var upload = await call.Routerd.UploadAsync(Routerd.App(app, "uploads"), content, cancel);
        Console.Error.WriteLine($"{(live ? "\r" : "")}Uploaded {files} {(files == 1 ? "file" : "files")}, {Size(upload.Value.Bytes)}   ".TrimEnd());
        return upload.Value.Id;
    }

    private static string Size(long bytes) => bytes < 1 << 20 ? $"{(bytes + 1023) >> 10} kB" : $"{bytes / (double)(1 << 20):0.0} MB";

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
