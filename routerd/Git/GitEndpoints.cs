using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Users;
using Npgsql;

namespace Appoxy.Routerd.Git;

/// <summary><c>/git/{app}.git</c>: git's smart HTTP, by git's own backend. A push deploys; a fetch brings back what was pushed.</summary>
internal static class GitEndpoints
{
    private static readonly TimeSpan FetchLimit = TimeSpan.FromMinutes(10);

    // A build may wait for others.
    private static readonly TimeSpan PushLimit = TimeSpan.FromHours(4);
    private static readonly TimeSpan PlaceLimit = TimeSpan.FromSeconds(20);
    private static readonly SemaphoreSlim Fetches = new(8);
    private static readonly SemaphoreSlim Pushes = new(32);

    public static void MapGit(this WebApplication app)
    {
        var git = app.MapGroup("/git/{app}.git").WithMetadata(new BasicToken()).ExcludeFromDescription();
        git.MapGet("/info/refs", RefsAsync).RequireScope(Scope.Read);
        git.MapPost("/git-upload-pack", FetchAsync).RequireScope(Scope.Read);
        git.MapPost("/git-receive-pack", PushAsync).RequireScope(Scope.Deploy);
        // For the hook that git calls: known by a secret of each push.
        app.MapPost("/git/pushes", GitPushes.DecideAsync).OpenToAll().ExcludeFromDescription();
    }

    private static async Task RefsAsync(string app, string? service, HttpContext http, Caller caller, NpgsqlDataSource db,
        GitRepositories repositories, CancellationToken cancel)
    {
        if (service is not ("git-upload-pack" or "git-receive-pack"))
            throw Problem.Forbidden("This repository is for git's smart HTTP protocol; use git 1.6.6 or newer.");
        var pushes = service == "git-receive-pack";
        caller.Require(pushes ? Scope.Deploy : Scope.Read);
        var row = await AppRow.FindAsync(db, pushes ? caller with { Needs = AppRole.Deploy } : caller, app, cancel);
        await repositories.EnsureAsync(row.Uid, cancel);
        using var place = await EnterAsync(Fetches, cancel);
        await GitBackend.RunAsync(http, repositories, row.Uid, "/info/refs", caller, null, FetchLimit, cancel);
    }

    private static async Task FetchAsync(
        string app, HttpContext http, Caller caller, NpgsqlDataSource db, GitRepositories repositories, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        await repositories.EnsureAsync(row.Uid, cancel);
        using var place = await EnterAsync(Fetches, cancel);
        await GitBackend.RunAsync(http, repositories, row.Uid, "/git-upload-pack", caller, null, FetchLimit, cancel);
    }

    private static async Task PushAsync(
        string app, HttpContext http, Caller caller, NpgsqlDataSource db, GitRepositories repositories, GitPushes pushes,
        CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        await repositories.EnsureAsync(row.Uid, cancel);
        using var place = await EnterAsync(Pushes, cancel);
        using var push = pushes.Begin(row, caller);
        await GitBackend.RunAsync(http, repositories, row.Uid, "/git-receive-pack", caller, push.Environment, PushLimit, cancel);
        repositories.PointHead(row.Uid, Settings.Branches(Settings.InForce(row.Settings)));
    }

    private static async Task<IDisposable> EnterAsync(SemaphoreSlim places, CancellationToken cancel) =>
        await places.WaitAsync(PlaceLimit, cancel) ? new Place(places)
            : throw Problem.Unavailable("Too many pushes and fetches are under way. Try again in a moment.");

    private sealed class Place(SemaphoreSlim places) : IDisposable
    {
        public void Dispose() => places.Release();
    }
}
