using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy logs</c>: what an app, or the build of one of its deployments, has written.</summary>
internal static class Logs
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private static readonly Option<bool> Follow = new("--follow", "-f") { Description = "Go on with what comes" };
    private static readonly Option<int?> Tail = Arguments.Count("--tail", "Only the last N lines", least: 0);
    private static readonly Option<string?> Since = new("--since") { Description = "Only what is younger than 10m, or than 2026-11-25T10:00:00Z", HelpName = "TIME" };
    private static readonly Option<int?> Build = Arguments.Count("--build", "The log of deployment N in place of the app's", least: 1);

    public static Verb Define()
    {
        var name = Arguments.App();
        return new Verb("logs", "Prints an app's log, or that of a deployment.",
            "appoxy logs shop --tail 100 -f", "appoxy logs shop --since 10m", "appoxy logs shop --build 3")
        {
            name, Follow, Tail, Since, Build,
        }.Does((call, cancel) => call.Get(Build) is { } number && call.Get(Follow)
            ? new DeploymentWatch(call.Routerd, call.Get(name), number, Printer(call.Json)).UntilFinalAsync(cancel)
            : PrintAsync(call, call.Get(name), cancel), Fault);
    }

    private static string? Fault(ParseResult parsed)
    {
        var since = parsed.GetValue(Since);
        if (since is not null && !Quantities.TryParseMoment(since, DateTimeOffset.UtcNow, out _))
            return $"--since is '{since}': give an age such as 10m or 2h, or a time such as 2026-11-25T10:00:00Z";
        return parsed.GetValue(Build) is not null && (since is not null || parsed.GetValue(Tail) is not null)
            ? "--build does not go with --tail or --since"
            : null;
    }

    private static async Task PrintAsync(Call call, string app, CancellationToken cancel)
    {
        var follow = call.Get(Follow);
        var query = new List<string>();
        if (follow)
            query.Add("follow=true");
        if (call.Get(Tail) is { } tail)
            query.Add($"tail={tail}");
        if (call.Get(Since) is { } since)
            query.Add($"since={Uri.EscapeDataString(since)}");
        var path = Routerd.App(app, call.Get(Build) is { } number ? $"deployments/{number}/log" : "logs");
        var print = Printer(call.Json);
        try
        {
            await using var stream = await call.Routerd.StreamAsync(query.Count == 0 ? path : $"{path}?{string.Join('&', query)}", cancel);
            var log = new LogReader(stream);
            while (await log.NextAsync(follow ? Timeout.InfiniteTimeSpan : Patience, cancel) is { } line)
                print(line);
        }
        catch (Exception e) when (e is HttpRequestException or IOException or TimeoutException)
        {
            throw new Failure(ExitCodes.Failed, $"the log broke off: {e.Message}");
        }
    }

    private static Action<string> Printer(bool asJson) => !asJson ? Output.Line : line => Output.JsonLine(json =>
    {
        json.WriteStartObject();
        json.WriteString("line", line);
        json.WriteEndObject();
    });
}
