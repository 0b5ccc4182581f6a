using System.CommandLine;
using System.Security.Cryptography;
using System.Text;

namespace Appoxy.Cli;

/// <summary><c>appoxy completion</c>: what a shell asks when Tab is pressed. Names of apps come from the API, and are kept for a moment.</summary>
internal static class Completion
{
    /// <summary>The hidden first word by which a shell asks; behind it stand the words so far, the last of them unfinished.</summary>
    public const string Ask = "__complete";

    private static readonly TimeSpan Fresh = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    private const string Bash = """
        _appoxy() {
          local IFS=$'\n'
          COMPREPLY=($(appoxy __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
        }
        complete -o default -F _appoxy appoxy
        """;

    private const string Zsh = """
        #compdef appoxy
        _appoxy() {
          local -a found
          found=("${(@f)$(appoxy __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
          [[ -n $found ]] && compadd -- $found || _files
        }
        compdef _appoxy appoxy
        """;

    private const string Fish = """
        function __appoxy_complete
          set -l words (commandline -opc) (commandline -ct)
          appoxy __complete $words[2..-1] 2>/dev/null
        end
        complete -c appoxy -a '(__appoxy_complete)'
        """;

    public static Verb Define()
    {
        var shell = new Argument<string>("SHELL") { Description = "bash, zsh or fish" };
        shell.AcceptOnlyFromAmong("bash", "zsh", "fish");
        var verb = new Verb("completion", "Prints a script by which a shell completes commands, options and names of apps.",
            "appoxy completion bash > /etc/bash_completion.d/appoxy", "appoxy completion zsh > ~/.zfunc/_appoxy",
            "appoxy completion fish > ~/.config/fish/completions/appoxy.fish") { shell };
        verb.SetAction(parsed =>
        {
            Output.Line(parsed.GetValue(shell) switch { "bash" => Bash, "zsh" => Zsh, _ => Fish });
            return ExitCodes.Done;
        });
        return verb;
    }

    /// <summary>Prints what the last of the words may become, one a line.</summary>
    public static int Answer(RootCommand root, string[] words)
    {
        // What may stand in the last word's place, whatever it is so far: deploy may become deployments.
        var unfinished = words.LastOrDefault() ?? "";
        var line = string.Concat(words.SkipLast(1).Select(w => (w.Contains(' ', StringComparison.Ordinal) ? $"\"{w}\"" : w) + " "));
        foreach (var found in root.Parse(line).GetCompletions(line.Length).Select(c => c.InsertText ?? c.Label).Distinct()
            .Where(c => c.StartsWith(unfinished, StringComparison.Ordinal) 
                && (unfinished.StartsWith('-') || !c.StartsWith('-')) && !c.StartsWith('/')))
            Output.Line(found);
        return ExitCodes.Done;
    }

    /// <summary>The names of the apps that the user may see; none where Appoxy can't be asked.</summary>
    public static IEnumerable<string> Apps()
    {
        try
        {
            var connection = Connection.Find();
            var file = CacheFile(connection);
            if (File.Exists(file) && DateTime.UtcNow - File.GetLastWriteTimeUtc(file) < Fresh)
                return File.ReadAllLines(file);
            using var bound = new CancellationTokenSource(Patience);
            using var routerd = new Routerd(connection);
            string[] names = [.. routerd.ListAsync<App>("v1/apps", bound.Token).GetAwaiter().GetResult().Value.Items.Select(a => a.Name)];
            Directory.CreateDirectory(Path.GetDirectoryName(file)!, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            File.WriteAllLines(file, names);
            return names;
        }
        // Whatever is wrong is said by the command itself, once it is run.
        catch (Exception e) when (e is Failure or OperationCanceledException or IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    /// <summary>Has the next Tab ask anew, as there is another app now, or one less.</summary>
    public static void Forget(Connection connection)
    {
        try
        {
            File.Delete(CacheFile(connection));
        }
        // Then the names are old for half a minute.
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
        }
    }

    private static string CacheFile(Connection connection) => Path.Combine(CacheFolder(), "apps-" + Convert.ToHexStringLower(
        SHA256.HashData(Encoding.UTF8.GetBytes($"{connection.Url} {connection.Token}")).AsSpan(0, 8)));

    private static string CacheFolder() => Path.Combine(Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } cache ? cache
        : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache"), "appoxy");
}
