using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Deployments;

/// <summary>Removes the logs of deployments that are over the budget, oldest first, but for each app's newest.</summary>
internal sealed partial class OldLogs(NpgsqlDataSource db, RouterdSettings settings, ILogger<OldLogs> log) : Rounds(TimeSpan.FromMinutes(10), log)
{
    protected override async Task RoundAsync(CancellationToken cancel)
    {
        // As they are stored: Postgres packs them.
        var removed = await db.RunAsync("""
            delete from deployment_logs l using (
              select app_uid, number, row_number() over (partition by app_uid order by number desc) as age,
                sum(pg_column_size(l.log)) over (order by d.finished_at desc nulls first, app_uid, number desc) as bytes
              from deployment_logs l join deployments d using (app_uid, number)) old
            where old.age > 1 and old.bytes > @LogBudgetBytes and l.app_uid = old.app_uid and l.number = old.number
            """, new { settings.LogBudgetBytes }, cancel);
        if (removed > 0)
            LogRemoved(log, removed, settings.LogBudget);
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Removed the logs of {Count} old deployments; they may take {Budget}")]
    private static partial void LogRemoved(ILogger log, int count, string budget);
}
