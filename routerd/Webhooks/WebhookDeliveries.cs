using System.Threading.RateLimiting;
using Appoxy.Routerd.Audits;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Sealing;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Webhooks;

/// <summary>
/// <c>POST /v1/hooks/{app}/{id}</c>: takes what git hosts send at a push. It only notes what is to be deployed and answers at once, as
/// they give up within seconds.
/// </summary>
internal static class WebhookDeliveries
{
    // The most that GitHub sends.
    private const int MaxBody = 25 << 20;
    private const int MaxId = 64;
    private const string Deploys = "deploys";
    private static readonly TimeSpan BodyLimit = TimeSpan.FromSeconds(60);
    private static readonly SemaphoreSlim Bodies = new(4);

    private static readonly PartitionedRateLimiter<string> Senders = PartitionedRateLimiter.Create<string, string>(sender =>
        RateLimitPartition.GetFixedWindowLimiter(sender, _ => new() { PermitLimit = 600, Window = TimeSpan.FromMinutes(1) }));

    private static readonly PartitionedRateLimiter<string> Hooks = PartitionedRateLimiter.Create<string, string>(id =>
        RateLimitPartition.GetFixedWindowLimiter(id, _ => new() { PermitLimit = 60, Window = TimeSpan.FromMinutes(1) }));

    public static void MapWebhookDeliveries(this WebApplication app) => app.MapPost("/v1/hooks/{app}/{id}", TakeAsync).OpenToAll();

    private static async Task<Accepted<WebhookAnswer>> TakeAsync(
        string app, string id, HttpContext http, NpgsqlDataSource db, SecretBox box, WebhookDeployments deployments, CancellationToken cancel)
    {
        using var sender = Senders.AttemptAcquire(ClientAddress.Network(ClientAddress.Of(http)));
        if (!sender.IsAcquired)
            throw Problem.TooMany("Too many deliveries from this address; wait a minute.");
        var hook = Names.IsAppName(app) && id.Length <= MaxId
            ? await db.FirstAsync<WebhookRow>($"""
                select {WebhookRow.Columns} from webhooks where id = @id and app_uid = (select uid from apps where name = @app)
                """, new { id, app }, cancel)
            : null;
        if (hook is null)
            throw Problem.NotFound("There is no such webhook.");
        using var turn = Hooks.AttemptAcquire(hook.Id);
        if (!turn.IsAcquired)
            throw Problem.TooMany("Too many deliveries of this webhook; wait a minute.");
        var push = await ReadAsync(http, hook, hook.Secret(box), cancel);
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var result = await NoteAsync(connection, hook, push, cancel);
        if (result.StartsWith(Deploys, StringComparison.Ordinal))
        {
            await Audit.AddAsync(connection, new AuditRow
            {
                Operation = "webhook", Target = $"/v1/apps/{app}", AppUid = hook.AppUid, Client = ClientAddress.Of(http).ToString(),
                Status = 202, Detail = result,
            }, cancel);
        }
        await transaction.CommitAsync(cancel);
        deployments.Wake();
        return TypedResults.Accepted((string?)null, new WebhookAnswer(result));
    }

    /// <summary>The delivery, once its signature is found right.</summary>
    private static async Task<WebhookPush> ReadAsync(HttpContext http, WebhookRow hook, string secret, CancellationToken cancel)
    {
        http.Features.GetRequiredFeature<IHttpMaxRequestBodySizeFeature>().MaxRequestBodySize = 2 * MaxBody;
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(BodyLimit);
        if (http.Request.ContentLength > MaxBody)
        {
            // An answer while the body still comes reads to nginx as a broken connection.
            await http.Request.Body.CopyToAsync(Stream.Null, bound.Token);
            throw TooLong();
        }
        await Bodies.WaitAsync(bound.Token);
        try
        {
            using var body = new MemoryStream();
            await http.Request.Body.CopyToAsync(body, bound.Token);
            if (body.Length > MaxBody)
                throw TooLong();
            var bytes = body.GetBuffer().AsMemory(0, (int)body.Length);
            return WebhookPush.IsSigned(http.Request.Headers, bytes.Span, secret)
                ? WebhookPush.Read(http.Request.Headers, http.Request.ContentType, bytes)
                : throw new Problem(401, "The signature is missing or wrong: is the secret the one that was shown when the webhook was made?");
        }
        finally
        {
            Bodies.Release();
        }
    }

    private static Problem TooLong() => new(413, "A delivery has 25 MB at most.");

    private static async Task<string> NoteAsync(NpgsqlConnection connection, WebhookRow hook, WebhookPush push, CancellationToken cancel)
    {
        if (push is { Event: "ping" })
            return await ResultAsync(connection, hook, "pong", null, cancel);
        if (push.Event != "push")
            return await ResultAsync(connection, hook, "ignored: not a push", null, cancel);
        if (push.Branch != hook.Branch)
            return await ResultAsync(connection, hook, $"ignored: not to {hook.Branch}", null, cancel);
        if (push.Commit is null)
            return await ResultAsync(connection, hook, "ignored: the branch was deleted", null, cancel);
        if (push.Delivery is { } delivery && await connection.RunAsync(
            "insert into webhook_deliveries (webhook_id, delivery) values (@Id, @delivery) on conflict do nothing", new { hook.Id, delivery }, cancel) == 0)
            return "ignored: this delivery came before";
        var newest = await connection.FirstAsync<string>("select commit_id from deployments where app_uid = @AppUid order by number desc limit 1", hook, cancel);
        if (newest == push.Commit || hook.Pending == push.Commit)
            return await ResultAsync(connection, hook, $"ignored: {push.Commit[..12]} is deployed already", null, cancel);
        return await ResultAsync(connection, hook, $"{Deploys} {push.Commit[..12]}", push.Commit, cancel);
    }

    private static async Task<string> ResultAsync(NpgsqlConnection connection, WebhookRow hook, string result, string? pending, CancellationToken cancel)
    {
        await connection.RunAsync("update webhooks set last_at = now(), last_result = @result, pending = coalesce(@pending, pending) where id = @Id",
            new { hook.Id, result, pending }, cancel);
        return result;
    }
}
