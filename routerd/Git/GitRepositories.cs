using System.Collections.Concurrent;
using System.Diagnostics;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Git;

/// <summary>
/// A bare repository for each app that was pushed to, named by its uid. They are but the other end of <c>git push</c>: what is
/// deployed goes to the droid-server as an upload, so that one that is lost costs a longer push.
/// </summary>
internal sealed class GitRepositories(RouterdSettings settings, NpgsqlDataSource db, ILogger<GitRepositories> log)
    : Rounds(TimeSpan.FromMinutes(1), log)
{
    private const int MostPushes = 8;
    private static readonly TimeSpan Abandoned = TimeSpan.FromHours(6);
    private readonly ConcurrentDictionary<string, SemaphoreSlim> gates = new();

    public string Root { get; } = settings.GitDir;

    public long PushBytes => settings.PushBytes;

    public string PushLimit => settings.PushLimit;

    public string PathOf(string uid) => Path.Combine(Root, uid + ".git");

    /// <summary>Where what belongs to pushes under way lies, for routerd's user alone.</summary>
    public string Pushes => Path.Combine(Root, ".pushes");

    private string Hooks => Path.Combine(Root, ".hooks");

    /// <summary>Makes the repository of an app where there is none; its settings are brought to what they should be.</summary>
    public async Task EnsureAsync(string uid, CancellationToken cancel)
    {
        var gate = gates.GetOrAdd(uid, _ => new SemaphoreSlim(1, 1));
        await gate.WaitAsync(cancel);
        try
        {
            var (path, next) = (PathOf(uid), PathOf(uid) + ".next");
            WriteHook();
            if (!Directory.Exists(path))
            {
                if (Directory.Exists(next))
                    Directory.Delete(next, recursive: true);
                using var git = Start(["init", "--quiet", "--bare", "--initial-branch=main", "--template=", next], []);
                using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
                bound.CancelAfter(TimeSpan.FromSeconds(20));
                await git.WaitForExitAsync(bound.Token);
                if (git.ExitCode != 0)
                    throw new IOException($"git init failed with code {git.ExitCode}");
                Directory.CreateDirectory(Path.Combine(next, "info"));
                // An upload has all files as a checkout would have them.
                await File.WriteAllTextAsync(Path.Combine(next, "info/attributes"), "* -export-ignore -export-subst\n", cancel);
                Directory.Move(next, path);
            }
            var config = Path.Combine(path, "config");
            if (await File.ReadAllTextAsync(config, cancel) != Config)
            {
                await File.WriteAllTextAsync(config + ".next", Config, cancel);
                File.Move(config + ".next", config, overwrite: true);
            }
        }
        finally
        {
            gate.Release();
        }
    }

    /// <summary>Whether it has grown to more than a few of the longest pushes, as with each push of another history.</summary>
    public bool IsFull(string uid) => new DirectoryInfo(Path.Combine(PathOf(uid), "objects"))
        .EnumerateFiles("*", SearchOption.AllDirectories).Sum(f => f.Length) > MostPushes * PushBytes;

    /// <summary>Lets a clone check out the branch that is deployed.</summary>
    public void PointHead(string uid, IReadOnlyList<string> branches)
    {
        var path = PathOf(uid);
        var packed = Path.Combine(path, "packed-refs") is var file && File.Exists(file) ? File.ReadAllLines(file) : [];
        if (branches.FirstOrDefault(b => File.Exists(Path.Combine(path, "refs/heads", b))
                || packed.Any(l => l.EndsWith(" refs/heads/" + b, StringComparison.Ordinal))) is not { } branch)
            return;
        var (head, text) = (Path.Combine(path, "HEAD"), $"ref: refs/heads/{branch}\n");
        if (File.ReadAllText(head) == text)
            return;
        File.WriteAllText(head + ".next", text);
        File.Move(head + ".next", head, overwrite: true);
    }

    /// <summary>Starts git with nothing of routerd's own environment, and with no settings but those of the repository.</summary>
    public Process Start(IEnumerable<string> arguments, IEnumerable<KeyValuePair<string, string>> environment, bool input = false)
    {
        Directory.CreateDirectory(Root, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        var start = new ProcessStartInfo("git", arguments)
        {
            WorkingDirectory = Root, RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true,
        };
        start.Environment.Clear();
        foreach (var (name, value) in environment)
            start.Environment[name] = value;
        start.Environment["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        start.Environment["HOME"] = Root;
        start.Environment["GIT_CONFIG_NOSYSTEM"] = "1";
        start.Environment["GIT_CONFIG_GLOBAL"] = "/dev/null";
        var git = Process.Start(start) ?? throw new IOException("git can't be started");
        if (!input)
            git.StandardInput.Close();
        return git;
    }

    /// <summary>Removes the repositories of apps that are gone, and what was left of pushes when routerd was ended.</summary>
    protected override async Task RoundAsync(CancellationToken cancel)
    {
        if (!Directory.Exists(Root))
            return;
        var there = Directory.EnumerateDirectories(Root, "*.git").Select(d => Path.GetFileNameWithoutExtension(d)).ToArray();
        var known = (await db.ListAsync<string>("select uid from apps where uid = any(@there)", new { there }, cancel)).ToHashSet();
        foreach (var uid in there.Where(uid => Names.IsUid(uid) && !known.Contains(uid)))
        {
            Directory.Delete(PathOf(uid), recursive: true);
            gates.TryRemove(uid, out _);
        }
        if (Directory.Exists(Pushes))
        {
            foreach (var left in new DirectoryInfo(Pushes).EnumerateFiles().Where(f => DateTime.UtcNow - f.LastWriteTimeUtc > Abandoned))
                left.Delete();
        }
    }

    private void WriteHook()
    {
        using var stream = typeof(GitRepositories).Assembly.GetManifestResourceStream("Appoxy.Routerd.Git.pre-receive")
            ?? throw new InvalidOperationException("pre-receive is not embedded");
        using var reader = new StreamReader(stream);
        var (text, path) = (reader.ReadToEnd(), Path.Combine(Hooks, "pre-receive"));
        if (File.Exists(path) && File.ReadAllText(path) == text)
            return;
        Directory.CreateDirectory(Root, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        Directory.CreateDirectory(Hooks);
        var next = $"{path}.{Path.GetRandomFileName()}";
        File.WriteAllText(next, text);
        File.SetUnixFileMode(next, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        File.Move(next, path, overwrite: true);
    }

    // No hooks but ours; objects are checked as they come; housekeeping is done at the end of a push, within its time limit and with
    // little memory. Old repositories have faults that hurt nobody.
    private string Config => $"""
        [core]
        	repositoryformatversion = 0
        	filemode = true
        	bare = true
        	hooksPath = {Hooks}
        	bigFileThreshold = 16m
        [http]
        	receivepack = true
        [transfer]
        	fsckObjects = true
        [receive]
        	fsckObjects = true
        	maxInputSize = {PushBytes}
        	unpackLimit = 1
        	autogc = true
        	keepAlive = 5
        	denyNonFastForwards = false
        [receive "fsck"]
        	zeroPaddedFilemode = ignore
        	missingSpaceBeforeDate = ignore
        	badTimezone = ignore
        [gc]
        	auto = 2000
        	autoPackLimit = 20
        	autoDetach = false
        	pruneExpire = 1.hour.ago
        [pack]
        	threads = 1
        	windowMemory = 64m
        	deltaCacheSize = 16m

        """;
}
