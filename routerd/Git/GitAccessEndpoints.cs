using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Sealing;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Git;

/// <summary>
/// What opens an app's private repositories: <c>/v1/apps/{app}/deploy-key</c> for ssh, <c>/v1/apps/{app}/git-auth</c> for https. It goes
/// to the app's droid-server with the spec, and to no answer.
/// </summary>
internal static class GitAccessEndpoints
{
    private const int MaxHosts = 20;

    public static void MapGitAccess(this RouteGroupBuilder v1)
    {
        v1.MapGet("/apps/{app}/deploy-key", KeyAsync).RequireScope(Scope.Read);
        v1.MapPost("/apps/{app}/deploy-key", MakeKeyAsync).RequireScope(Scope.Write);
        v1.MapDelete("/apps/{app}/deploy-key", RemoveKeyAsync).RequireScope(Scope.Write);
        v1.MapGet("/apps/{app}/git-auth", ListAsync).RequireScope(Scope.Read);
        v1.MapPut("/apps/{app}/git-auth/{host}", SetAsync).RequireScope(Scope.Write);
        v1.MapDelete("/apps/{app}/git-auth/{host}", RemoveAsync).RequireScope(Scope.Write);
    }

    private static async Task<Ok<DeployKey>> KeyAsync(string app, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        return TypedResults.Ok(await FindKeyAsync(db, row, cancel)
            ?? throw Problem.NotFound($"{row.Name} has no deploy key; appoxy deploy-key {row.Name} makes one."));
    }

    /// <summary>The app's key, made if there is none yet.</summary>
    private static async Task<Ok<DeployKey>> MakeKeyAsync(
        string app, Caller caller, NpgsqlDataSource db, SecretBox box, GitRepositories repositories, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        if (await FindKeyAsync(db, row, cancel) is { } there)
            return TypedResults.Ok(there);
        var (privateKey, publicKey) = await SshKey.NewAsync(repositories, $"appoxy-{row.Name}", cancel);
        await db.RunAsync("""
            insert into deploy_keys (app_uid, sealed_private_key, public_key) values (@Uid, @sealed_, @publicKey) on conflict (app_uid) do nothing
            """, new { row.Uid, sealed_ = box.Seal(privateKey, SealedColumn.DeployKey, row.Uid), publicKey }, cancel);
        return TypedResults.Ok((await FindKeyAsync(db, row, cancel))!);
    }

    private static async Task<NoContent> RemoveKeyAsync(string app, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        return await db.RunAsync("delete from deploy_keys where app_uid = @Uid", row, cancel) > 0 ? TypedResults.NoContent()
            : throw Problem.NotFound($"{row.Name} has no deploy key.");
    }

    private static async Task<DeployKey?> FindKeyAsync(NpgsqlDataSource db, AppRow app, CancellationToken cancel) =>
        await db.FirstAsync<KeyRow>("select public_key, created_at from deploy_keys where app_uid = @Uid", app, cancel) is { } key
            ? new DeployKey(key.PublicKey, key.CreatedAt) : null;

    private static async Task<Ok<Page<GitAuth>>> ListAsync(string app, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var all = await db.ListAsync<AuthRow>(
            "select host, username, created_at from git_passwords where app_uid = @Uid order by host", row, cancel);
        return TypedResults.Ok(new Page<GitAuth>([.. all.Select(a => new GitAuth(a.Host, a.Username, a.CreatedAt))]));
    }

    private static async Task<Ok<GitAuth>> SetAsync(
        string app, string host, NewGitAuth body, Caller caller, NpgsqlDataSource db, SecretBox box, CancellationToken cancel)
    {
        host = host.ToLowerInvariant();
        if (!SourceRules.IsGitHost(host))
            throw Problem.BadRequest("host: give a git host such as github.com, with its port if that is not 443.");
        if (body.Username is not { Length: > 0 and <= 200 } username || username.Any(c => char.IsControl(c)))
            throw Problem.BadRequest("username: give 1 to 200 characters; hosts that only take tokens take any.");
        if (body.Password is not { Length: > 0 and <= 2000 } password || password.Any(c => char.IsControl(c)))
            throw Problem.BadRequest("password: give a password or token of 1 to 2000 characters.");
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        if (await db.FirstAsync<int>("select count(*) from git_passwords where app_uid = @Uid and host <> @host", new { row.Uid, host }, cancel)
            >= MaxHosts)
            throw Problem.BadRequest($"An app has passwords for {MaxHosts} git hosts at most.");
        var stored = await db.FirstAsync<AuthRow>("""
            insert into git_passwords (app_uid, host, username, sealed_password) values (@Uid, @host, @username, @sealed_)
            on conflict (app_uid, host) do update set username = excluded.username, sealed_password = excluded.sealed_password, created_at = now()
            returning host, username, created_at
            """, new { row.Uid, host, username, sealed_ = box.Seal(password, SealedColumn.GitPassword, row.Uid, host) }, cancel);
        return TypedResults.Ok(new GitAuth(stored!.Host, stored.Username, stored.CreatedAt));
    }

    private static async Task<NoContent> RemoveAsync(string app, string host, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        return await db.RunAsync("delete from git_passwords where app_uid = @Uid and host = lower(@host)", new { row.Uid, host }, cancel) > 0
            ? TypedResults.NoContent()
            : throw Problem.NotFound($"{row.Name} has no password for that host.");
    }

    private sealed record KeyRow
    {
        public string PublicKey { get; init; } = "";
        public DateTime CreatedAt { get; init; }
    }

    private sealed record AuthRow
    {
        public string Host { get; init; } = "";
        public string Username { get; init; } = "";
        public DateTime CreatedAt { get; init; }
    }
}
