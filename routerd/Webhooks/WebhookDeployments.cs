using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Deployments;
using Appoxy.Routerd.Sealing;
using Appoxy.Routerd.Users;
using Npgsql;

namespace Appoxy.Routerd.Webhooks;

/// <summary>
/// Deploys what webhooks have noted, as soon as no other deployment of the app runs. Of several pushes meanwhile only the newest state
/// of the branch is deployed. The note is in Postgres, so that none is lost when routerd is ended.
/// </summary>
internal sealed partial class WebhookDeployments(
    NpgsqlDataSource db, SecretBox box, DeploymentRunner runner, Quotas quotas, ILogger<WebhookDeployments> log) : Rounds(TimeSpan.FromSeconds(2), log)
{
    private static readonly TimeSpan Remembered = TimeSpan.FromDays(30);
    private static readonly TimeSpan PruneEvery = TimeSpan.FromHours(1);
    private DateTime pruned;

    protected override async Task RoundAsync(CancellationToken cancel)
    {
        if (DateTime.UtcNow - pruned > PruneEvery)
        {
            await db.RunAsync("delete from webhook_deliveries where at < now() - @Remembered", new { Remembered }, cancel);
            pruned = DateTime.UtcNow;
        }
        var due = await db.ListAsync<Due>("""
            select distinct on (w.app_uid) w.id, w.url, w.sealed_url, w.branch, w.pending, a.uid, a.name, coalesce(u.role, '') as role
            from webhooks w join apps a on a.uid = w.app_uid left join users u on u.id = w.created_by and u.disabled_at is null
            where w.pending is not null and not exists (select 1 from deployments where app_uid = w.app_uid and finished_at is null)
            order by w.app_uid, w.last_at limit 100
            """, null, cancel);
        foreach (var hook in due)
            await DeployAsync(hook, cancel);
    }

    private async Task DeployAsync(Due hook, CancellationToken cancel)
    {
        var admin = hook.Role == Caller.AdminRole;
        string result;
        try
        {
            var url = hook.SealedUrl is { } whole ? box.Open(whole, SealedColumn.WebhookUrl, hook.Id, hook.Uid) : hook.Url;
            // The branch and not the commit: what a replayed delivery names may be long past.
            var (source, builder) = Sources.Check(new NewDeployment(new DroidSource { Git = new GitSource(url, hook.Branch) }), admin);
            var begun = await NewDeployments.BeginAsync(new AppRow { Uid = hook.Uid, Name = hook.Name },
                new Begin(source, builder, admin, Rebuild: false), db, box, quotas, cancel);
            result = $"deployment {begun.Number} for {hook.Pending[..12]}";
            LogBegun(log, hook.Uid, begun.Number);
            runner.Wake();
        }
        catch (Problem e) when (e.Status is 409 or 503)
        {
            return;
        }
        catch (Problem e)
        {
            result = "failed: " + e.Message;
        }
        await db.RunAsync("update webhooks set pending = null, last_result = @result where id = @Id and pending = @Pending",
            new { hook.Id, hook.Pending, result }, cancel);
    }

    private sealed record Due
    {
        public string Id { get; init; } = "";
        public string Url { get; init; } = "";
        public byte[]? SealedUrl { get; init; }
        public string Branch { get; init; } = "";
        public string Pending { get; init; } = "";
        public string Uid { get; init; } = "";
        public string Name { get; init; } = "";
        public string Role { get; init; } = "";
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "A webhook began deployment {Number} of {Uid}")]
    private static partial void LogBegun(ILogger log, string uid, int number);
}
