using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy deploy-key</c>: the key by which an app's builds read private repositories over ssh.</summary>
internal static class DeployKeys
{
    public static Verb Define()
    {
        var name = Arguments.App();
        var remove = new Option<bool>("--remove") { Description = "Removes the key" };
        return new Verb("deploy-key", "Prints the public key to give to a git host, so that an app's private repository can be read over ssh.",
            "appoxy deploy-key shop", "appoxy deploy-key shop --remove") { name, remove }.Does(async (call, cancel) =>
        {
            var path = Routerd.App(call.Get(name), "deploy-key");
            if (call.Get(remove))
            {
                await call.Routerd.DeleteAsync(path, cancel);
                Removed.Print(call, "deploy-key", $"the deploy key of {call.Get(name)} is removed");
                return;
            }
            var key = await call.Routerd.PostAsync<DeployKey>(path, cancel);
            if (call.Json)
                Output.Json(key.Json);
            else
                Output.Line(key.Value.PublicKey);
        });
    }
}

/// <summary><c>appoxy git-auth</c>: passwords and tokens by which an app's builds read private repositories over https.</summary>
internal static class GitAuths
{
    public static Verb Define()
    {
        var name = Arguments.App();
        var host = new Option<string?>("--host") { Description = "The git host, as github.com", HelpName = "HOST" };
        var user = new Option<string?>("--username") { Description = "The user; for a token alone, any name will do", HelpName = "USER" };
        var file = new Option<string?>("--password-file") { Description = "A file with the password or token; - is standard input", HelpName = "FILE" };
        var remove = new Option<bool>("--remove") { Description = "Removes the password for --host" };
        return new Verb("git-auth", "Lists the git hosts that an app has a password for, or sets one.",
            "appoxy git-auth shop", "appoxy git-auth shop --host github.com --username x --password-file token",
            "appoxy git-auth shop --host github.com --remove") { name, host, user, file, remove }
            .Does(async (call, cancel) =>
            {
                var path = Routerd.App(call.Get(name), "git-auth");
                if (call.Get(host) is not { } at)
                {
                    var all = await call.Routerd.GetAsync<Page<GitAuth>>(path, cancel);
                    if (call.Json)
                        Output.Json(all.Items);
                    else
                        Output.Table(all.Value.Items, ("HOST", a => a.Host), ("USERNAME", a => a.Username), ("SET", a => Output.Ago(a.CreatedAt)));
                    return;
                }
                path += "/" + Uri.EscapeDataString(at);
                if (call.Get(remove))
                {
                    await call.Routerd.DeleteAsync(path, cancel);
                    Removed.Print(call, at, $"{call.Get(name)} has no password for {at} any more");
                    return;
                }
                var set = await call.Routerd.PutAsync<NewGitAuth, GitAuth>(path, new NewGitAuth(call.Get(user), Read(call.Get(file)!)), cancel);
                if (call.Json)
                    Output.Json(set.Json);
                else
                    Output.Line($"{call.Get(name)} has a password for {set.Value.Host}");
            }, parsed => (parsed.GetValue(host), parsed.GetValue(user), parsed.GetValue(file), parsed.GetValue(remove)) switch
            {
                (null, null, null, false) or (not null, null, null, true) or (not null, not null, not null, false) => null,
                (null, _, _, _) => "say which host: --host HOST",
                (_, _, _, true) => "--remove takes --host alone",
                _ => "--host needs --username and --password-file, or --remove",
            });
    }

    private static string Read(string path)
    {
        try
        {
            return (path == "-" ? Console.In.ReadLine() : File.ReadLines(path).FirstOrDefault())?.TrimEnd('\r') is { Length: > 0 } line ? line
                : throw Failure.Usage($"there is no password in {path}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Failure.Usage($"can't read {path}: {e.Message}");
        }
    }
}

/// <summary>Tells that something is removed.</summary>
internal static class Removed
{
    public static void Print(Call call, string what, string line)
    {
        if (!call.Json)
        {
            Output.Line(line);
            return;
        }
        Output.Json(json =>
        {
            json.WriteStartObject();
            json.WriteString("removed", what);
            json.WriteEndObject();
        });
    }
}
