using CliWrap;
using CliWrap.EventStream;

namespace Appoxy.Droidd.Builds;

/// <summary>Fetches one commit of a git repository: shallow, without prompts, hooks or the operator's own git settings.</summary>
internal sealed class GitClone(DroiddSettings settings)
{
    private const int MaxDepth = 5;

    /// <summary>Checks <paramref name="source"/> out into <paramref name="folder"/>, which is made anew; the commit's hash.</summary>
    /// <param name="source">The repository and what of it is wanted.</param>
    /// <param name="secrets">What opens it.</param>
    /// <param name="allowPrivate">Whether files of this machine and hosts at private addresses may be fetched, for submodules too.</param>
    /// <param name="folder">Where to.</param>
    /// <param name="log">Gets what git says.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="BuildException">There is no such repository or ref, it may not be fetched, or it is too large or takes too long.</exception>
    public async Task<string> FetchAsync(
        GitSource source, GitSecrets secrets, bool allowPrivate, string folder, BuildLog log, CancellationToken cancel)
    {
        if (Directory.Exists(folder))
            Directory.Delete(folder, recursive: true);
        Directory.CreateDirectory(folder);
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        timeout.CancelAfter(settings.FetchTime);
        await using var size = new FolderLimit(folder, settings.SourceBytes, timeout);
        var git = new Session(settings, folder, source.Url, secrets, allowPrivate, log, timeout.Token);
        try
        {
            if (!allowPrivate)
                await GitSourceCheck.RequirePublicAsync(source.Url, timeout.Token);
            var wanted = source.Ref ?? "HEAD";
            await git.RunAsync("init", "--quiet");
            // What the relative addresses of submodules are relative to.
            await git.RunAsync("remote", "add", "--", "origin", git.Url);
            var fetched = await git.TryAsync("fetch", "--depth=1", "--no-tags", "--", git.Url, wanted);
            // A server may refuse a bare hash, or know no shallow clones: then all branches and tags are fetched.
            if (!fetched && IsHash(wanted))
            {
                await git.RunAsync("fetch", "--tags", "--", git.Url, "+refs/heads/*:refs/remotes/origin/*");
                await git.RunAsync("checkout", "--quiet", "--detach", wanted, "--");
            }
            else if (fetched)
            {
                await git.RunAsync("checkout", "--quiet", "--detach", "FETCH_HEAD", "--");
            }
            else
            {
                throw new BuildException(FailureReasons.Source, $"git can't fetch '{wanted}' from that repository");
            }
            await SubmodulesAsync(git, folder, allowPrivate, depth: 0, timeout.Token);
            TellOfLargeFiles(folder, log);
            if (size.Look())
                throw TooBig();
            return (await git.ReadAsync("rev-parse", "HEAD")).Trim();
        }
        catch (OperationCanceledException) when (size.IsExceeded)
        {
            throw TooBig();
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new BuildException(FailureReasons.Timeout, $"fetching the source took longer than {settings.FetchTimeout}");
        }
    }

    /// <summary>Large files of git's LFS stay what the repository holds of them: they are not fetched.</summary>
    private static void TellOfLargeFiles(string folder, BuildLog log)
    {
        var attributes = new FileInfo(Path.Combine(folder, ".gitattributes"));
        if (attributes is { Exists: true, LinkTarget: null, Length: < 1 << 20 }
            && File.ReadLines(attributes.FullName).Any(l => l.Contains("filter=lfs", StringComparison.Ordinal)))
            log.Say(" !     Files that the repository keeps by git LFS are not fetched; the build finds their pointers");
    }

    private BuildException TooBig() =>
        new(FailureReasons.SourceTooBig, $"the repository at that commit is larger than {settings.SourceLimit}");

    /// <summary>Fetches submodules level by level, since the address of each has to be allowed before git goes there.</summary>
    private static async Task SubmodulesAsync(Session git, string folder, bool allowPrivate, int depth, CancellationToken cancel)
    {
        if (!File.Exists(Path.Combine(folder, ".gitmodules")))
            return;
        if (depth == MaxDepth)
            throw new BuildException(FailureReasons.Source, $"the submodules are nested more than {MaxDepth} deep");
        await git.RunAsync("-C", folder, "submodule", "--quiet", "init");
        var entries = (await git.ReadAsync("-C", folder, "config", "--get-regexp", @"^submodule\..*\.url$")).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        foreach (var url in entries.Select(e => e[(e.IndexOf(' ', StringComparison.Ordinal) + 1)..]))
        {
            if (SourceRules.Fault(new GitSource(url, null)) is not null)
                throw new BuildException(FailureReasons.Source, "a submodule's address can't be fetched here");
            if (!allowPrivate)
                await GitSourceCheck.RequirePublicAsync(url, cancel);
        }
        await git.RunAsync("-C", folder, "submodule", "--quiet", "update", "--depth=1");
        var paths = (await git.ReadAsync("-C", folder, "config", "--file", ".gitmodules", "--get-regexp", @"^submodule\..*\.path$")).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        foreach (var path in paths.Select(e => Path.GetFullPath(Path.Combine(folder, e[(e.IndexOf(' ', StringComparison.Ordinal) + 1)..]))))
        {
            if (path.StartsWith(folder + "/", StringComparison.Ordinal))
                await SubmodulesAsync(git, path, allowPrivate, depth + 1, cancel);
        }
    }

    private static bool IsHash(string text) => text.Length is >= 7 and <= 64 && text.All(char.IsAsciiHexDigit);

    /// <summary>git in one folder, with one repository's credentials.</summary>
    private sealed class Session(
        DroiddSettings settings, string folder, string url, GitSecrets secrets, bool allowPrivate, BuildLog log, CancellationToken cancel)
    {
        /// <summary>The address without its credentials, since all users can read argv.</summary>
        public string Url { get; } = GitSecrets.Bare(url);

        public async Task RunAsync(params string[] arguments)
        {
            if (!await TryAsync(arguments))
                throw new BuildException(FailureReasons.Source, $"git {arguments.First(a => a != "-C" && !a.StartsWith('/'))} failed; the log says why");
        }

        public async Task<bool> TryAsync(params string[] arguments)
        {
            var (exitCode, full) = (0, false);
            await foreach (var happened in Git(arguments).ListenAsync(cancel))
            {
                if (happened is StandardErrorCommandEvent { Text: var error })
                {
                    full |= DockerFault.IsDiskFull(error);
                    log.Output(error);
                }
                else if (happened is ExitedCommandEvent exited)
                    exitCode = exited.ExitCode;
            }
            return exitCode == 0 || !full ? exitCode == 0 : throw new BuildException(FailureReasons.DiskFull, DockerFault.DiskIsFull);
        }

        public async Task<string> ReadAsync(params string[] arguments)
        {
            var text = new System.Text.StringBuilder();
            await Git(arguments).WithStandardOutputPipe(PipeTarget.ToStringBuilder(text)).ExecuteAsync(cancel);
            return text.ToString();
        }

        private Command Git(string[] arguments) => Cli.Wrap("git")
            .WithArguments(["-c", "core.hooksPath=/dev/null", "-c", "credential.helper=", "-c", $"credential.helper={secrets.Helper}", "-c", "protocol.ext.allow=never",
                // A redirect could lead to where the address itself must not.
                "-c", $"http.followRedirects={(allowPrivate ? "initial" : "false")}", .. arguments])
            .WithWorkingDirectory(folder)
            .WithValidation(CommandResultValidation.None)
            .WithEnvironmentVariables(env => env
                .Set("GIT_TERMINAL_PROMPT", "0")
                .Set("GIT_ASKPASS", "")
                .Set("SSH_ASKPASS", "")
                .Set("GIT_SSH_COMMAND", secrets.Ssh)
                .Set("GIT_ALLOW_PROTOCOL", allowPrivate ? "https:http:ssh:git:file" : "https:http:ssh:git")
                .Set("GIT_CONFIG_NOSYSTEM", "1")
                .Set("GIT_CONFIG_GLOBAL", GlobalConfig())
                .Set("GIT_LFS_SKIP_SMUDGE", "1"));

        /// <summary>git refuses repositories of other users unless a config file (no option) says otherwise.</summary>
        private string GlobalConfig()
        {
            var path = Path.Combine(settings.DataDir, ".gitconfig");
            if (!File.Exists(path))
                File.WriteAllText(path, "[safe]\n\tdirectory = *\n[advice]\n\tdetachedHead = false\n[init]\n\tdefaultBranch = main\n");
            return path;
        }
    }
}
