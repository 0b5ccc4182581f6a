using System.Text;
using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Droids;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Users;
using Npgsql;

namespace Appoxy.Routerd.Deployments;

/// <summary>A deployment's log: from its droid-server while it runs, from Postgres after.</summary>
internal static class DeploymentLog
{
    /// <summary>How much of a log's end is kept.</summary>
    private const int MaxBytes = 1 << 20;
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(300);

    /// <summary>
    /// <c>GET …/log[?follow=true]</c>. When followed, it ends when the deployment has; a droid-server that goes away and comes
    /// back meanwhile only delays it.
    /// </summary>
    public static async Task SendAsync(
        string app, int number, bool? follow, Caller caller, HttpContext http, NpgsqlDataSource db, DroidServers servers,
        CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var deployment = await DeploymentRow.FindAsync(db, row.Uid, number, cancel);
        await using var target = LogRelay.Begin(http);
        await CopyAsync(row, deployment, follow == true, target, db, servers, cancel);
    }

    /// <summary>Writes a deployment's log to <paramref name="target"/>; followed, until the deployment has ended.</summary>
    public static async Task CopyAsync(
        AppRow row, DeploymentRow deployment, bool follow, Stream target, NpgsqlDataSource db, DroidServers servers, CancellationToken cancel)
    {
        var number = deployment.Number;
        long sent = 0;
        while (deployment.FinishedAt is null)
        {
            (sent, var ended) = await RelayAsync(servers, row, number, follow, target, sent, cancel);
            if (!follow)
                return;
            // When droidd's stream ends the deployment has ended there; the runner notes it in a moment.
            await Task.Delay(Pause, cancel);
            deployment = await AgainAsync(db, row.Uid, number, deployment, cancel);
            if (ended && deployment.FinishedAt is not null)
                return;
        }
        var stored = Encoding.UTF8.GetBytes(await StoredAsync(db, row.Uid, number, cancel));
        if (sent < stored.Length)
            await target.WriteAsync(stored.AsMemory((int)sent), cancel);
    }

    /// <summary>The end of the log at the droid-server, at most <see cref="MaxBytes"/> of it and fit for Postgres.</summary>
    /// <exception cref="Problem">The droid-server is away, or has no such log.</exception>
    public static async Task<string> FetchAsync(DroidServer server, string uid, int number, CancellationToken cancel)
    {
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(TimeSpan.FromSeconds(20));
        using var source = await server.OpenLogAsync(uid, Query(number, follow: false), bound.Token);
        await using var body = await source.Content.ReadAsStreamAsync(bound.Token);
        // Twice the bound at most, so that each byte is moved once.
        using var log = new MemoryStream();
        var buffer = new byte[64 << 10];
        while (await body.ReadAsync(buffer, bound.Token) is > 0 and var count)
        {
            log.Write(buffer, 0, count);
            if (log.Length > 2 * MaxBytes)
                KeepEnd(log);
        }
        if (log.Length > MaxBytes)
            KeepEnd(log);
        return Encoding.UTF8.GetString(log.GetBuffer(), 0, (int)log.Length).Replace("\0", "", StringComparison.Ordinal);
    }

    private static void KeepEnd(MemoryStream log)
    {
        var end = log.GetBuffer().AsSpan((int)log.Length - MaxBytes, MaxBytes).ToArray();
        var line = end.AsSpan().IndexOf((byte)'\n') + 1;
        log.SetLength(0);
        log.Write(end.AsSpan(line));
    }

    private static async Task<(long Sent, bool Ended)> RelayAsync(
        DroidServers servers, AppRow app, int number, bool follow, Stream target, long sent, CancellationToken cancel)
    {
        HttpResponseMessage source;
        try
        {
            source = await servers[app.Server].OpenLogAsync(app.Uid, Query(number, follow), cancel);
        }
        catch (Problem)
        {
            // Not begun there yet, or away.
            return (sent, false);
        }
        using (source)
            return await LogRelay.CopyAsync(source, target, sent, cancel);
    }

    private static async Task<DeploymentRow> AgainAsync(
        NpgsqlDataSource db, string uid, int number, DeploymentRow last, CancellationToken cancel)
    {
        try
        {
            return await DeploymentRow.FindAsync(db, uid, number, cancel);
        }
        catch (Problem)
        {
            return last with { FinishedAt = DateTime.UtcNow };
        }
        catch (NpgsqlException e) when (Outage.IsPostgres(e))
        {
            return last;
        }
    }

    private static async Task<string> StoredAsync(NpgsqlDataSource db, string uid, int number, CancellationToken cancel) =>
        await db.FirstAsync<string>("select log from deployment_logs where app_uid = @uid and number = @number", new { uid, number },
            cancel) ?? "The log of this deployment is not kept any more.\n";

    private static string Query(int number, bool follow) => $"?build=out&deployment={number}&follow={(follow ? "true" : "false")}";
}
