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
        await install.MustAsync("apps", "create", "tabbed");
        try
        {
            Assert.Equal(["deploy", "deploy-key", "deployments"], Lines(await install.MustAsync("__complete", "deploy")));
            // A list of names is good for a moment, and none is waited for long.
            await Install.EventuallyAsync(async () => Lines(await install.MustAsync("__complete", "logs", "tabb")) is ["tabbed"], TimeSpan.FromSeconds(45));
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
