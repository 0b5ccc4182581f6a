using System.Text.RegularExpressions;

namespace Appoxy.Tests.Acceptance;

/// <summary>What holds for the CLI as a whole.</summary>
[Collection(ThirdLane.Name)]
public sealed class CliTests(Install install)
{
    private readonly SemaphoreSlim places = new(4);

    [Fact]
    public async Task Each_commands_help_shows_an_example_of_it()
    {
        var seen = 0;
        for (string[][] level = [[]]; level.Length > 0;)
        {
            seen += level.Length;
            level = [.. (await Task.WhenAll(level.Select(BelowAsync))).SelectMany(c => c)];
        }
        Assert.True(seen > 50, $"{seen} commands");

        async Task<IEnumerable<string[]>> BelowAsync(string[] command)
        {
            await places.WaitAsync();
            var help = await install.MustAsync([.. command, "--help"]);
            places.Release();
            var examples = help.Split('\n').SkipWhile(l => !l.StartsWith("Example", StringComparison.Ordinal)).Skip(1).Where(l => l.Length > 0).ToList();
            Assert.True(examples.Count > 0 && examples.All(e => e.Contains(string.Join(' ', ["appoxy", .. command]), StringComparison.Ordinal)),
                $"appoxy {string.Join(' ', command)} --help: {help}");
            var listed = help.Split('\n').SkipWhile(l => l != "Commands:").Skip(1).TakeWhile(l => l.StartsWith("  ", StringComparison.Ordinal));
            return listed.Where(l => Regex.IsMatch(l, "^  [a-z]")).Select(l => (string[])[.. command, l.Trim().Split(' ')[0]]);
        }
    }

    [Fact]
    public async Task Shells_complete_commands_options_and_names_of_apps()
    {
        // A list of names is kept for a moment, but not over the making of an app.
        await install.MustAsync("__complete", "logs", "tabb");
        await install.MustAsync("apps", "create", "tabbed");
        try
        {
            Assert.Equal(["deploy", "deploy-key", "deployments"], Lines(await install.MustAsync("__complete", "deploy")));
            // None is waited for long.
            await Install.EventuallyAsync(async () => Lines(await install.MustAsync("__complete", "logs", "tabb")) is ["tabbed"], TimeSpan.FromSeconds(10));
            Assert.Contains("--builder", Lines(await install.MustAsync("__complete", "deploy", "tabbed", "--b")));
            Assert.Contains("list", Lines(await install.MustAsync("__complete", "apps", "")));
            // What bash makes of the script, with the appoxy that is tested.
            var script = await install.MustAsync("completion", "bash");
            var ran = await install.RunAsync("bash", ["-c", $"PATH={install.Prefix}/bin:$PATH\n{script}\nCOMP_WORDS=(appoxy open tabb); COMP_CWORD=2; _appoxy; echo \"${{COMPREPLY[@]}}\""]);
            Assert.Equal("tabbed", ran.Output.Trim());
            foreach (var shell in new[] { "zsh", "fish" })
                Assert.Contains("__complete", await install.MustAsync("completion", shell), StringComparison.Ordinal);
        }
        finally
        {
            await install.MustAsync("apps", "destroy", "tabbed", "--confirm", "tabbed");
        }
        Assert.Empty(Lines(await install.MustAsync("__complete", "logs", "tabb")));
    }

    [Fact]
    public async Task One_may_be_logged_in_to_several_and_says_which_is_meant()
    {
        var home = Directory.CreateTempSubdirectory("appoxy-home-").FullName;
        var password = (await File.ReadAllTextAsync(install.Installed("admin_password_file"))).Trim();
        var (first, second) = ($"http://127.0.0.1:{install.ConsolePort}/", $"http://localhost:{install.ConsolePort}/");
        // As an older CLI left it.
        Directory.CreateDirectory(Path.Combine(home, ".config/appoxy"));
        await File.WriteAllTextAsync(Path.Combine(home, ".config/appoxy/config.json"), $$"""{"url":"{{first}}","token":"{{install.Token}}"}""");
        Assert.Contains("admin@localhost", (await RunAsync("", "whoami")).Output, StringComparison.Ordinal);
        Assert.Equal(0, (await RunAsync(password + "\n", "login", second, "--email", "admin@localhost")).ExitCode);

        Assert.Equal([(first, false), (second, true)], await KnownAsync());
        Assert.Equal(0, (await RunAsync("", "use", "127.0.0.1")).ExitCode);
        Assert.Equal([(first, true), (second, false)], await KnownAsync());
        Assert.Contains("first admin", (await RunAsync("", "whoami")).Output, StringComparison.Ordinal);
        Assert.Contains("cli on", (await install.RunAsync("env", ["-u", "APPOXY_TOKEN", $"HOME={home}", $"APPOXY_URL={second}", $"{install.Prefix}/bin/appoxy", "whoami"])).Output,
            StringComparison.Ordinal);
        Assert.Equal(3, (await RunAsync("", "use", "elsewhere.test")).ExitCode);
        Assert.Equal(2, (await RunAsync("", "use", $":{install.ConsolePort}")).ExitCode);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(Path.Combine(home, ".config/appoxy/config.json")));
        Directory.Delete(home, recursive: true);

        Task<Ran> RunAsync(string input, params string[] arguments) => install.RunAsync("bash",
            ["-c", $"unset APPOXY_URL APPOXY_TOKEN XDG_CONFIG_HOME; export HOME={home}; printf '{input}' | {install.Prefix}/bin/appoxy {string.Join(' ', arguments)}"]);

        async Task<(string, bool)[]> KnownAsync() => [.. System.Text.Json.JsonDocument.Parse((await RunAsync("", "use", "--json")).Output).RootElement.EnumerateArray()
            .Select(l => (l.GetProperty("url").GetString()!, l.GetProperty("current").GetBoolean())).Order()];
    }

    [Fact]
    public async Task File_in_an_apps_folder_names_it_and_says_what_it_begins_with()
    {
        var folder = new Folder(install, "folder", "filed").Write("appoxy.toml", """
            name = "filed"
            [settings]
            memory = "200m"
            [scale]
            web = 1
            worker = 0
            [env]
            GREETING = "hello"
            [routing]
            force-https = "off"
            """).Write("app.json", """
            { "env": { "SECRET_KEY": { "generator": "secret" }, "NEEDED": { "required": true }, "LATER": { "required": false }, "LEVEL": "info" } }
            """);
        Task<Ran> InFolderAsync(params string[] arguments) =>
            install.RunAsync("sh", ["-c", $"cd {folder.Path} && exec {install.Prefix}/bin/appoxy \"$@\"", "sh", .. arguments]);
        async Task<string> MustAsync(params string[] arguments)
        {
            var ran = await InFolderAsync(arguments);
            Assert.True(ran.ExitCode == 0, ran.ToString());
            return ran.Output;
        }

        await MustAsync("apps", "create");
        var refused = await InFolderAsync("deploy");
        Assert.Equal(2, refused.ExitCode);
        Assert.Contains("NEEDED", refused.Error, StringComparison.Ordinal);
        await MustAsync("env", "set", "NEEDED=1", "LEVEL=debug");
        await MustAsync("deploy");
        Assert.Equal("1\n", (await install.GetAsync("filed.localhost")).Body);
        Assert.Contains("memory           200m", await MustAsync("settings"), StringComparison.Ordinal);
        var env = await MustAsync("env", "list");
        Assert.Matches("SECRET_KEY +[0-9a-f]{64}\n", env);
        Assert.Matches("GREETING +hello\n", env);
        Assert.Matches("LEVEL +debug\n", env);
        Assert.DoesNotContain("LATER", env, StringComparison.Ordinal);

        // Settings are the file's with each deploy, variables and counts are the command's once it has spoken.
        await MustAsync("settings", "memory=300m");
        await MustAsync("env", "set", "GREETING=bye");
        await MustAsync("deploy", ".");
        Assert.Contains("200m", await MustAsync("settings"), StringComparison.Ordinal);
        Assert.Matches("GREETING +bye\n", await MustAsync("env", "list"));
        folder.Write("appoxy.toml", "name = \"filed\"\n[settings]\nmemry = \"1g\"\n");
        var wrong = await InFolderAsync("deploy");
        Assert.Equal(2, wrong.ExitCode);
        Assert.Contains("memry", wrong.Error, StringComparison.Ordinal);
        await install.MustAsync("apps", "destroy", "filed", "--confirm", "filed");
    }

    private static string[] Lines(string text) => text.Split('\n', StringSplitOptions.RemoveEmptyEntries);
}
