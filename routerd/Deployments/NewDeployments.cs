using System.Text.Json;
using Appoxy.Daemon;
using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Sealing;
using Appoxy.Routerd.Users;
using Npgsql;

namespace Appoxy.Routerd.Deployments;

/// <summary>What a deployment begins with.</summary>
/// <param name="Source">With the password that a git address may hold.</param>
/// <param name="Builder">As the owner gave it.</param>
/// <param name="ByAdmin">Whether private sources are allowed.</param>
/// <param name="Rebuild">Whether to build even where nothing has changed.</param>
/// <param name="RollbackTo">The earlier deployment whose image it runs.</param>
internal sealed record Begin(DroidSource Source, string Builder, bool ByAdmin, bool Rebuild, int? RollbackTo = null);

/// <summary>The one way by which a deployment begins: one at a time for each app.</summary>
internal static class NewDeployments
{
    /// <exception cref="Problem">409: another one still runs, or as many builds as the owner may have. 403: no more builds today. 404: the app is gone.</exception>
    public static async Task<DeploymentRow> BeginAsync(
        AppRow app, Begin begin, NpgsqlDataSource db, SecretBox box, Quotas quotas, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        try
        {
            // A deployment ends with an app that serves, also where it was stopped before.
            if (await connection.RunAsync("update apps set generation = generation + 1, desired = 'running' where uid = @Uid", app, cancel) == 0)
                throw Problem.NotFound($"There is no app '{app.Name}'.");
            var number = await connection.FirstAsync<int>(
                "select coalesce(max(number), 0) + 1 from deployments where app_uid = @Uid", app, cancel);
            var (source, sealedUrl) = Sources.Sealed(begin.Source, box, app.Uid, number);
            var json = JsonSerializer.Serialize(source, AppoxyJson.Default.DroidSource);
            var begun = await connection.FirstAsync<DeploymentRow>($"""
                insert into deployments (app_uid, number, source, sealed_url, builder, by_admin, rebuild, rollback_to, traceparent)
                values (@Uid, @number, @json::jsonb, @sealedUrl, @Builder, @ByAdmin, @Rebuild, @RollbackTo, @Parent)
                returning {DeploymentRow.Columns}
                """, new { app.Uid, number, json, sealedUrl, begin.Builder, begin.ByAdmin, begin.Rebuild, begin.RollbackTo, Telemetry.Parent }, cancel);
            if (begin.RollbackTo is null)
                await quotas.CheckAppAsync(connection, app.Uid, Growth.Builds, cancel);
            await transaction.CommitAsync(cancel);
            return begun!;
        }
        catch (PostgresException e) when (e.Violates("deployments_one_at_a_time"))
        {
            throw Problem.Conflict($"A deployment of {app.Name} is still running; wait for its end, or cancel it.");
        }
    }
}
