using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy deployments</c>: an app's deployments, newest first; or cancels one.</summary>
internal static class Deployments
{
    public static Verb Define()
    {
        var name = Arguments.App();
        var cancelled = Arguments.Count("--cancel", "Cancels this deployment", least: 1);
        return new Verb("deployments", "Lists an app's deployments, or cancels one that runs.",
            "appoxy deployments shop", "appoxy deployments shop --cancel 3") { name, cancelled }
            .Does((call, cancel) => call.Get(cancelled) is { } number
                ? CancelAsync(call, call.Get(name), number, cancel)
                : ListAsync(call, call.Get(name), cancel));
    }

    /// <summary>A source in one word; a password within a URL is left out.</summary>
    public static string? Source(DroidSource source)
    {
        if (source.Git is not { } git)
            return source.Commit is not null ? "git push" : source.Upload is { } upload ? $"upload {upload[..12]}" : source.Image;
        var url = Uri.TryCreate(git.Url, UriKind.Absolute, out var uri) && uri.UserInfo.Contains(':', StringComparison.Ordinal)
            ? git.Url.Replace(uri.UserInfo + "@", "***@", StringComparison.Ordinal)
            : git.Url;
        return git.Ref is null ? url : $"{url}#{git.Ref}";
    }

    private static async Task ListAsync(Call call, string app, CancellationToken cancel)
    {
        var deployments = await call.Routerd.GetAsync<Page<Deployment>>(Routerd.App(app, "deployments?limit=200"), cancel);
        if (call.Json)
            Output.Json(deployments.Items);
        else
            Output.Table(deployments.Value.Items, ("NUMBER", d => d.Number.ToString()), ("STATE", d => d.State), ("AHEAD", d => d.Ahead?.ToString()),
                ("CREATED", d => Output.Ago(d.CreatedAt)), ("TOOK", d => d.FinishedAt is { } at ? Output.Span(at - d.CreatedAt) : null),
                ("BUILDER", d => d.Builder), ("COMMIT", d => d.Commit is { Length: > 12 } commit ? commit[..12] : d.Commit),
                ("SOURCE", d => d.RollbackTo is { } earlier ? $"rollback to {earlier}" : Source(d.Source)), ("ERROR", d => d.Error));
    }

    private static async Task CancelAsync(Call call, string app, int number, CancellationToken cancel)
    {
        var deployment = await call.Routerd.PostAsync<Deployment>(Routerd.App(app, $"deployments/{number}/cancel"), cancel);
        if (call.Json)
            Output.Json(deployment.Json);
        else
            Output.Line(deployment.Value.State == DeploymentStates.Cancelled
                ? $"deployment {number} of {app} is cancelled"
                : $"deployment {number} of {app} is being cancelled");
    }
}
