using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Deployments;
using Appoxy.Routerd.Sealing;
using Appoxy.Routerd.Droids;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.Features;
using Npgsql;

namespace Appoxy.Routerd.Git;

/// <summary>A push under way: what its hook is told by, so that it is known when it asks.</summary>
internal sealed class GitPush(AppRow app, Caller caller, string file, Dictionary<string, string> environment, Action ended) : IDisposable
{
    public AppRow App => app;

    public Caller Caller => caller;

    /// <summary>For git and its hook.</summary>
    public IReadOnlyDictionary<string, string> Environment => environment;

    public void Dispose()
    {
        ended();
        File.Delete(file);
    }
}

/// <summary>
/// What a push becomes: git has taken the objects into quarantine and asks by its pre-receive hook. The commit of the app's branch is
/// deployed there and then, the pusher sees its log, and the push is taken only if it went live; other branches are kept.
/// </summary>
internal sealed partial class GitPushes(
    GitRepositories repositories, RouterdSettings settings, NpgsqlDataSource db, SecretBox box, DroidServers servers,
    DeploymentRunner runner, Quotas quotas, UploadStore uploads, ILogger<GitPushes> log)
{
    private const int MaxHookBody = 256 << 10;
    private const string Header = "X-Appoxy-Push";
    private static readonly TimeSpan GitLimit = TimeSpan.FromMinutes(10);
    private readonly ConcurrentDictionary<string, GitPush> pushes = new();

    /// <summary>Lets the hook of one push be known until it is disposed.</summary>
    public GitPush Begin(AppRow app, Caller caller)
    {
        var secret = RandomNumberGenerator.GetHexString(64, lowercase: true);
        Directory.CreateDirectory(repositories.Pushes, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        // By a file, since all users can read argv.
        var file = Path.Combine(repositories.Pushes, Path.GetRandomFileName());
        using (var stream = new FileStream(file, new FileStreamOptions
        {
            Mode = FileMode.CreateNew, Access = FileAccess.Write, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        }))
            stream.Write(Encoding.ASCII.GetBytes($"{Header}: {secret}\n"));
        var own = new UriBuilder(settings.Listen) { Path = "/git/pushes" };
        if (own.Host is "0.0.0.0" or "[::]" or "*" or "+")
            own.Host = "127.0.0.1";
        var push = new GitPush(app, caller, file, new() { ["APPOXY_PUSH_HEADER"] = file, ["APPOXY_PUSH_URL"] = own.Uri.AbsoluteUri },
            () => pushes.TryRemove(secret, out _));
        pushes[secret] = push;
        return push;
    }

    /// <summary><c>POST /git/pushes</c>, from the hook: the quarantine's folder, then a line <c>old new ref</c> for each ref.</summary>
    public static async Task DecideAsync(HttpContext http, GitPushes all, CancellationToken cancel)
    {
        if (!all.pushes.TryGetValue(http.Request.Headers[Header].ToString(), out var push))
            throw Problem.NotFound("There is nothing at this address.");
        http.Features.GetRequiredFeature<IHttpMaxRequestBodySizeFeature>().MaxRequestBodySize = MaxHookBody;
        using var reader = new StreamReader(http.Request.Body);
        var lines = (await reader.ReadToEndAsync(cancel)).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        var answer = new HookAnswer(LogRelay.Begin(http));
        var taken = false;
        try
        {
            taken = await all.DecideAsync(push, lines, answer, cancel);
        }
        catch (Problem e)
        {
            await answer.SayAsync($" !     {e.Message}", cancel);
        }
        catch (Exception e) when (!cancel.IsCancellationRequested)
        {
            all.LogFault(e, push.App.Uid);
            await answer.SayAsync(" !     Something failed here; try again in a moment.", cancel);
        }
        await answer.EndAsync(taken, cancel);
    }

    private async Task<bool> DecideAsync(GitPush push, string[] lines, HookAnswer answer, CancellationToken cancel)
    {
        var app = push.App;
        var path = repositories.PathOf(app.Uid);
        var quarantine = Path.GetFullPath(lines.FirstOrDefault("/"));
        if (!quarantine.StartsWith(path + "/objects/", StringComparison.Ordinal))
            throw new IOException($"the hook tells of '{lines.FirstOrDefault()}'");
        var updates = lines.Skip(1).Select(l => l.Split(' ', 3)).Where(u => u.Length == 3).Select(u => (New: u[1], Ref: u[2])).ToList();
        if (updates.FirstOrDefault(u => !IsBranchOrTag(u.Ref)) is { Ref: { } odd })
            throw Problem.BadRequest($"Only branches and tags can be pushed here, not {odd}.");
        if (repositories.IsFull(app.Uid))
            throw new Problem(413, $"The repository of {app.Name} is too large; an admin can remove {path}, and you then push anew.");
        var branches = Settings.Branches(Settings.InForce(app.Settings));
        var deployed = branches.Select(b => updates.Find(u => u.Ref == "refs/heads/" + b)).FirstOrDefault(u => u.Ref is not null);
        foreach (var other in updates.Where(u => u.Ref != deployed.Ref && u.Ref.StartsWith("refs/heads/", StringComparison.Ordinal)))
            await answer.SayAsync($"-----> {other.Ref["refs/heads/".Length..]} is kept, not deployed: what deploys {app.Name} is a push to "
                + $"{string.Join(" or ", branches)} (to change that: appoxy settings {app.Name} branch=NAME)", cancel);
        if (deployed.Ref is null)
            return true;
        if (deployed.New.All(c => c == '0'))
        {
            await answer.SayAsync($"-----> The branch goes; what serves {app.Name} stays", cancel);
            return true;
        }
        return await DeployAsync(push, deployed.New, new Dictionary<string, string>
        {
            ["GIT_DIR"] = path, ["GIT_OBJECT_DIRECTORY"] = quarantine, ["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = Path.Combine(path, "objects"),
        }, answer, cancel);
    }

    private async Task<bool> DeployAsync(
        GitPush push, string commit, Dictionary<string, string> git, HookAnswer answer, CancellationToken cancel)
    {
        var app = push.App;
        if (!SourceRules.IsCommit(commit) || await RunAsync(["cat-file", "-e", commit + "^{commit}"], git, cancel) != 0)
            throw Problem.BadRequest("What was pushed to the branch is no commit.");
        if (await RunAsync(["cat-file", "-e", commit + ":.gitmodules"], git, cancel) == 0)
            await answer.SayAsync(" !     Submodules do not come with a push, their folders are empty; appoxy deploy --git fetches them", cancel);
        await answer.SayAsync($"-----> Taking commit {commit[..12]}", cancel);
        var upload = await UploadAsync(app, commit, git, cancel);
        var source = new DroidSource { Upload = upload, Commit = commit };
        var begun = await NewDeployments.BeginAsync(app, new Begin(source, "auto", push.Caller.Admin, Rebuild: false), db, box, quotas, cancel);
        runner.Wake();
        await answer.SayAsync($"-----> Deployment {begun.Number} of {app.Name}", cancel);
        await DeploymentLog.CopyAsync(app, begun, follow: true, answer, db, servers, cancel);
        var end = await DeploymentRow.FindAsync(db, app.Uid, begun.Number, cancel);
        if (end.State == DeploymentStates.Live)
        {
            await answer.SayAsync($"       {settings.Url($"{app.Name}.{settings.Domain}")}", cancel);
            return true;
        }
        await answer.SayAsync(end.State == DeploymentStates.Cancelled ? $" !     Deployment {end.Number} was cancelled; the push is refused"
            : $" !     Deployment {end.Number} failed, the push is refused: {end.Error}", cancel);
        return false;
    }

    /// <summary>Passes a commit's files on to the droid-server, straight from git; the upload's id.</summary>
    private async Task<string> UploadAsync(AppRow app, string commit, Dictionary<string, string> git, CancellationToken cancel)
    {
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(GitLimit);
        using var archive = repositories.Start(["archive", "--format=tar.gz", commit], git);
        try
        {
            var errors = archive.StandardError.ReadToEndAsync(bound.Token);
            var upload = await uploads.PassAsync(app.Uid, archive.StandardOutput.BaseStream, servers[app.Server], bound.Token);
            await archive.WaitForExitAsync(bound.Token);
            if (archive.ExitCode != 0)
                throw new IOException($"git archive ended with {archive.ExitCode}: {await errors}");
            return upload.Id;
        }
        finally
        {
            if (!archive.HasExited)
                archive.Kill(entireProcessTree: true);
        }
    }

    private async Task<int> RunAsync(string[] arguments, Dictionary<string, string> environment, CancellationToken cancel)
    {
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(TimeSpan.FromSeconds(60));
        using var git = repositories.Start(arguments, environment);
        try
        {
            var output = Task.WhenAll(git.StandardOutput.ReadToEndAsync(bound.Token), git.StandardError.ReadToEndAsync(bound.Token));
            await git.WaitForExitAsync(bound.Token);
            await output;
            return git.ExitCode;
        }
        finally
        {
            if (!git.HasExited)
                git.Kill(entireProcessTree: true);
        }
    }

    private static bool IsBranchOrTag(string name) =>
        name.StartsWith("refs/heads/", StringComparison.Ordinal) || name.StartsWith("refs/tags/", StringComparison.Ordinal);

    [LoggerMessage(Level = LogLevel.Error, Message = "A push to {Uid} failed")]
    private partial void LogFault(Exception e, string uid);
}
