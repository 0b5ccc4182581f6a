using System.Security.Cryptography;
using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Deployments;
using Appoxy.Routerd.Sealing;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Webhooks;

/// <summary>A webhook as Postgres holds it.</summary>
internal sealed record WebhookRow
{
    public const string Columns = "id, app_uid, created_by, url, branch, sealed_secret, created_at, last_at, last_result, pending";

    public string Id { get; init; } = "";
    public string AppUid { get; init; } = "";
    public long? CreatedBy { get; init; }
    public string Url { get; init; } = "";
    public string Branch { get; init; } = "";
    public byte[] SealedSecret { get; init; } = [];
    public DateTime CreatedAt { get; init; }
    public DateTime? LastAt { get; init; }
    public string? LastResult { get; init; }
    public string? Pending { get; init; }

    /// <exception cref="Problem">503: the key is missing.</exception>
    public string Secret(SecretBox box) => box.Open(SealedSecret, SealedColumn.WebhookSecret, Id, AppUid);
}

/// <summary><c>/v1/apps/{app}/webhooks</c>: create, list and remove.</summary>
internal static class WebhookEndpoints
{
    private const int MaxWebhooks = 20;
    private const string Alphabet = "abcdefghijklmnopqrstuvwxyz234567";

    public static void MapWebhooks(this RouteGroupBuilder v1)
    {
        var group = v1.MapGroup("/apps/{app}/webhooks");
        group.MapGet("", ListAsync).RequireScope(Scope.Write);
        group.MapPost("", CreateAsync).RequireScope(Scope.Write);
        group.MapDelete("/{id}", RemoveAsync).RequireScope(Scope.Write);
    }

    private static async Task<Ok<Page<Webhook>>> ListAsync(
        string app, Caller caller, NpgsqlDataSource db, RouterdSettings settings, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var all = await db.ListAsync<WebhookRow>($"select {WebhookRow.Columns} from webhooks where app_uid = @Uid order by created_at, id", row, cancel);
        return TypedResults.Ok(new Page<Webhook>([.. all.Select(w => Show(settings, row.Name, w, secret: null))]));
    }

    private static async Task<Created<Webhook>> CreateAsync(
        string app, NewWebhook body, Caller caller, NpgsqlDataSource db, SecretBox box, RouterdSettings settings,
        CancellationToken cancel)
    {
        var branch = string.IsNullOrEmpty(body.Branch) ? "main" : body.Branch;
        if (!SourceRules.IsBranch(branch))
            throw Problem.BadRequest("branch: give a branch's name.");
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var url = string.IsNullOrEmpty(body.Url) ? await NewestUrlAsync(row, db, box, cancel) : body.Url;
        _ = Sources.Check(new NewDeployment(new DroidSource { Git = new GitSource(url, branch) }), caller.Admin);
        if (await db.FirstAsync<int>("select count(*) from webhooks where app_uid = @Uid", row, cancel) >= MaxWebhooks)
            throw Problem.BadRequest($"An app has {MaxWebhooks} webhooks at most.");
        var id = RandomNumberGenerator.GetString(Alphabet, 24);
        var secret = RandomNumberGenerator.GetHexString(48, lowercase: true);
        var (shown, sealedUrl) = Sources.Sealed(url, box, SealedColumn.WebhookUrl, id, row.Uid);
        var made = await db.FirstAsync<WebhookRow>($"""
            insert into webhooks (id, app_uid, created_by, url, branch, sealed_secret, sealed_url)
            values (@id, @Uid, @creator, @shown, @branch, @sealedSecret, @sealedUrl)
            returning {WebhookRow.Columns}
            """, new
            {
                id, row.Uid, creator = caller.Id, shown, branch, sealedUrl, sealedSecret = box.Seal(secret, SealedColumn.WebhookSecret, id, row.Uid),
            }, cancel);
        return TypedResults.Created($"/v1/apps/{row.Name}/webhooks/{id}", Show(settings, row.Name, made!, secret));
    }

    private static async Task<NoContent> RemoveAsync(string app, string id, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        return await db.RunAsync("delete from webhooks where app_uid = @Uid and id = @id", new { row.Uid, id }, cancel) > 0
            ? TypedResults.NoContent()
            : throw Problem.NotFound($"{row.Name} has no such webhook.");
    }

    private static async Task<string> NewestUrlAsync(AppRow app, NpgsqlDataSource db, SecretBox box, CancellationToken cancel)
    {
        var newest = await db.FirstAsync<DeploymentRow>($"""
            select {DeploymentRow.Columns} from deployments where app_uid = @Uid and source->'git'->>'url' is not null
            order by number desc limit 1
            """, app, cancel)
            ?? throw Problem.BadRequest($"url: {app.Name} was never deployed from git; say which repository.");
        return newest.WholeSource(box).Git!.Url;
    }

    private static Webhook Show(RouterdSettings settings, string app, WebhookRow row, string? secret) =>
        new()
        {
            Id = row.Id,
            Url = settings.Url("console." + settings.Domain) + $"/v1/hooks/{app}/{row.Id}",
            Secret = secret,
            Source = row.Url,
            Branch = row.Branch,
            CreatedAt = row.CreatedAt,
            LastAt = row.LastAt,
            LastResult = row.LastResult,
        };
}
