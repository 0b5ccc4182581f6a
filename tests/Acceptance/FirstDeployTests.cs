using System.Text.RegularExpressions;

namespace Appoxy.Tests.Acceptance;

/// <summary>Does what README.md says under "A first deploy", command by command, as a user who is new.</summary>
[Collection(ThirdLane.Name)]
public sealed class FirstDeployTests(Install install)
{
    [Fact]
    public async Task New_user_gets_from_an_invitation_to_a_rollback_by_the_readme_alone()
    {
        var home = Directory.CreateDirectory(Path.Combine(install.Prefix, "ann")).FullName;
        var folder = new Folder(install, "folder", "first");
        var console = $"http://127.0.0.1:{install.ConsolePort}";
        var commands = Commands().Select(c => c.Replace("http://console.example.com", console, StringComparison.Ordinal)
            .Replace("shop.example", "first.test", StringComparison.Ordinal).Replace("shop", "first-shop", StringComparison.Ordinal)).ToList();

        var invitation = (await install.MustAsync(Words(Taken(commands, "users invite")))).Trim();
        Task<Ran> AnnAsync(string command, string input = "") => install.RunAsync("env", ["-i", $"HOME={home}", $"PATH={Environment.GetEnvironmentVariable("PATH")}",
            "APPOXY_INSTALL=/nowhere", "sh", "-c", $"cd {folder.Path} && printf '{input}' | {install.Prefix}/usr/lib/appoxy/cli/appoxy {command}"]);
        async Task<string> MustAsync(string command, string input = "")
        {
            var ran = await AnnAsync(command, input);
            Assert.True(ran.ExitCode == 0, $"appoxy {command}: {ran}");
            return ran.Output;
        }

        const string password = "a long enough pass phrase";
        await MustAsync(Taken(commands, "users accept"), $"{invitation}\\n{password}\\n");
        await MustAsync(Taken(commands, "login"), $"{password}\\n");
        var kept = Path.Combine(home, ".config/appoxy/config.json");
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(kept));
        await MustAsync(Taken(commands, "apps create"));
        await MustAsync(Taken(commands, "deploy first-shop ."));
        Assert.Equal("1\n", (await install.GetAsync("first-shop.localhost")).Body);
        await MustAsync(Taken(commands, "domains add"));
        await Install.EventuallyAsync(async () => (await install.GetAsync("www.first.test")).Body == "1\n", TimeSpan.FromSeconds(10));
        await MustAsync(Taken(commands, "settings"));
        Assert.Contains("running", await MustAsync(Taken(commands, "ps")), StringComparison.Ordinal);
        // Followed, it would go on for ever.
        Assert.Contains("GET", await MustAsync(Taken(commands, "logs").Replace(" -f", "", StringComparison.Ordinal)), StringComparison.Ordinal);
        folder.Write("version.txt", "2\n");
        await MustAsync("deploy first-shop .");
        Assert.Equal("2\n", (await install.GetAsync("www.first.test")).Body);
        await MustAsync(Taken(commands, "rollback"));
        Assert.Equal("1\n", (await install.GetAsync("www.first.test")).Body);
        await MustAsync("apps destroy first-shop --confirm first-shop");
    }

    /// <summary>The arguments of the one command that begins so.</summary>
    private static string Taken(List<string> commands, string beginning) => commands.Single(c => c.StartsWith(beginning, StringComparison.Ordinal));

    private static string[] Words(string command) => command.Split(' ');

    private List<string> Commands()
    {
        var readme = File.ReadAllText(Path.Combine(install.Repository, "README.md"));
        var section = readme.Split("\n## ").Single(s => s.StartsWith("A first deploy\n", StringComparison.Ordinal));
        return [.. Regex.Matches(section, "(?m)^appoxy (.+?)(?: {2,}#.*)?$").Select(m => m.Groups[1].Value)];
    }
}
