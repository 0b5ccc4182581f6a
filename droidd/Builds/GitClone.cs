using CliWrap;
using CliWrap.EventStream;

namespace Appoxy.Droidd.Builds;

/// <summary>Fetches one commit of a git repository: shallow, without prompts, hooks or the operator's own git settings.</summary>
internal sealed class GitClone(DroiddSettings settings)
{
    /// <summary>Checks <paramref name="source"/> out into <paramref name="folder"/>, which is made anew; the commit's hash.</summary>
    /// <exception cref="BuildException">There is no such repository or ref, or it takes too long.</exception>
    public async Task<string> FetchAsync(GitSource source, string folder, BuildLog log, CancellationToken cancel)
    {
        if (Directory.Exists(folder))
            Directory.Delete(folder, recursive: true);
        Directory.CreateDirectory(folder);
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        timeout.CancelAfter(settings.FetchTime);
        try
        {
            var wanted = source.Ref ?? "HEAD";
            await GitAsync(folder, log, timeout.Token, "init", "--quiet");
            var fetched = await TryGitAsync(folder, log, timeout.Token, "fetch", "--depth=1", "--no-tags", "--", source.Url, wanted);
            // A server may refuse a bare hash, or know no shallow clones: then all branches are fetched.
            if (!fetched && IsHash(wanted))
            {
                await GitAsync(folder, log, timeout.Token, "fetch", "--no-tags", "--", source.Url, "+refs/heads/*:refs/remotes/origin/*");
                await GitAsync(folder, log, timeout.Token, "checkout", "--quiet", "--detach", wanted, "--");
            }
            else if (fetched)
            {
                await GitAsync(folder, log, timeout.Token, "checkout", "--quiet", "--detach", "FETCH_HEAD", "--");
            }
            else
            {
                throw new BuildException($"git can't fetch '{wanted}' from that repository");
            }
            if (File.Exists(Path.Combine(folder, ".gitmodules")))
                await GitAsync(folder, log, timeout.Token, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1");
            return (await ReadAsync(folder, timeout.Token, "rev-parse", "HEAD")).Trim();
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new BuildException($"fetching the source took longer than {settings.FetchTimeout}");
        }
    }

    private static bool IsHash(string text) => text.Length is >= 7 and <= 64 && text.All(char.IsAsciiHexDigit);

    private async Task GitAsync(string folder, BuildLog log, CancellationToken cancel, params string[] arguments)
    {
        if (!await TryGitAsync(folder, log, cancel, arguments))
            throw new BuildException($"git {arguments[0]} failed; the log says why");
    }

    private async Task<bool> TryGitAsync(string folder, BuildLog log, CancellationToken cancel, params string[] arguments)
    {
        var exitCode = 0;
        await foreach (var happened in Git(folder, arguments).ListenAsync(cancel))
        {
            if (happened is StandardErrorCommandEvent { Text: var error })
                await log.WriteAsync(error);
            else if (happened is ExitedCommandEvent exited)
                exitCode = exited.ExitCode;
        }
        return exitCode == 0;
    }

    private async Task<string> ReadAsync(string folder, CancellationToken cancel, params string[] arguments)
    {
        var text = new System.Text.StringBuilder();
        await Git(folder, arguments).WithStandardOutputPipe(PipeTarget.ToStringBuilder(text)).ExecuteAsync(cancel);
        return text.ToString();
    }

    private Command Git(string folder, string[] arguments) => Cli.Wrap("git")
        .WithArguments(["-c", "core.hooksPath=/dev/null", "-c", "credential.helper=", "-c", "protocol.ext.allow=never", .. arguments])
        .WithWorkingDirectory(folder)
        .WithValidation(CommandResultValidation.None)
        .WithEnvironmentVariables(env => env
            .Set("GIT_TERMINAL_PROMPT", "0")
            .Set("GIT_ASKPASS", "/bin/false")
            .Set("SSH_ASKPASS", "/bin/false")
            .Set("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=15 -o StrictHostKeyChecking=accept-new")
            .Set("GIT_ALLOW_PROTOCOL", "https:http:ssh:git:file")
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
