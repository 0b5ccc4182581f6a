using System.CommandLine;
using System.Diagnostics;

namespace Appoxy.Cli;

/// <summary><c>appoxy git</c>: where to push an app to.</summary>
internal static class Git
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    public static Command Define() => new("git", "Tells where to push an app to, and lets git know.") { Url(), Remote() };

    private static Verb Url()
    {
        var name = Arguments.App();
        return new Verb("url", "Prints the URL that deploys an app when pushed to; git asks for any user name and a token as password.",
            "appoxy git url shop") { name }.Does(async (call, cancel) =>
        {
            var url = await UrlAsync(call, call.Get(name), cancel);
            if (call.Json)
                Print(url, null);
            else
                Output.Line(url);
        });
    }

    private static Verb Remote()
    {
        var name = Arguments.App();
        var remote = new Option<string>("--name") { Description = "What git is to call it", HelpName = "REMOTE", DefaultValueFactory = _ => "appoxy" };
        return new Verb("remote", "Adds an app to the repository at hand as a remote, so that `git push appoxy main` deploys it.",
            "appoxy git remote shop", "appoxy git remote shop --name production") { name, remote }
            .Does(async (call, cancel) =>
            {
                var (url, to) = (await UrlAsync(call, call.Get(name), cancel), call.Get(remote)!);
                if (await RunAsync(["rev-parse", "--git-dir"], cancel) is { ExitCode: not 0 })
                    throw Failure.Usage("there is no git repository here; run git init first");
                var known = await RunAsync(["remote", "get-url", to], cancel);
                var added = known.ExitCode == 0
                    ? await RunAsync(["remote", "set-url", to, url], cancel)
                    : await RunAsync(["remote", "add", to, url], cancel);
                if (added.ExitCode != 0)
                    throw new Failure(ExitCodes.Failed, $"git: {added.Error.Trim()}");
                if (call.Json)
                    Print(url, to);
                else
                    Output.Line($"remote {to} is {url}; to deploy: git push {to} main, with any user name and your token as password");
            }, parsed => parsed.GetValue(remote) is { Length: > 0 } to && to.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_') && to[0] != '-'
                ? null : "--name: give a name of letters, digits, - and _");
    }

    private static async Task<string> UrlAsync(Call call, string app, CancellationToken cancel) =>
        (await call.Routerd.GetAsync<App>(Routerd.App(app), cancel)).Value.GitUrl
        ?? throw new Failure(ExitCodes.Failed, "this Appoxy takes no git push");

    private static void Print(string url, string? remote) => Output.Json(json =>
    {
        json.WriteStartObject();
        json.WriteString("url", url);
        if (remote is not null)
            json.WriteString("remote", remote);
        json.WriteEndObject();
    });

    private static async Task<(int ExitCode, string Error)> RunAsync(string[] arguments, CancellationToken cancel)
    {
        using var bounded = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bounded.CancelAfter(Patience);
        try
        {
            using var git = Process.Start(new ProcessStartInfo("git", arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
            var said = await Task.WhenAll(git.StandardError.ReadToEndAsync(bounded.Token), git.StandardOutput.ReadToEndAsync(bounded.Token));
            await git.WaitForExitAsync(bounded.Token);
            return (git.ExitCode, said[0]);
        }
        catch (System.ComponentModel.Win32Exception)
        {
            throw new Failure(ExitCodes.Failed, "there is no git on this machine");
        }
    }
}
