using System.Text.Json;
using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Deployments;

/// <summary><c>/v1/apps/{app}/deployments</c>: begin, list, show, read the log of, and cancel.</summary>
internal static class DeploymentEndpoints
{
    public static void MapDeployments(this RouteGroupBuilder v1)
    {
        var group = v1.MapGroup("/apps/{app}/deployments");
        group.MapGet("", ListAsync);
        group.MapPost("", CreateAsync);
        group.MapGet("/{number}", GetAsync);
        group.MapGet("/{number}/log", DeploymentLog.SendAsync);
        group.MapPost("/{number}/cancel", CancelAsync);
    }

    private static async Task<Ok<Page<Deployment>>> ListAsync(string app, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var deployments = await db.ListAsync<DeploymentRow>(
            $"select {DeploymentRow.Columns} from deployments where app_uid = @Uid order by number desc limit 200", row, cancel);
        return TypedResults.Ok(new Page<Deployment>([.. deployments.Select(d => d.Show())]));
    }

    private static async Task<Accepted<Deployment>> CreateAsync(
        string app, NewDeployment body, Caller caller, NpgsqlDataSource db, DeploymentRunner runner, CancellationToken cancel)
    {
        var (source, builder) = Sources.Check(body, caller.Admin);
        var json = JsonSerializer.Serialize(source, AppoxyJson.Default.DroidSource);
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        DeploymentRow? begun;
        try
        {
            // A deployment ends with an app that serves, also where it was stopped before.
            begun = await connection.RunAsync("update apps set generation = generation + 1, desired = 'running' where uid = @Uid", row,
                cancel) == 0
                ? null
                : await connection.FirstAsync<DeploymentRow>($"""
                    insert into deployments (app_uid, number, source, builder, by_admin)
                    select @Uid, coalesce(max(number), 0) + 1, @source::jsonb, @builder, @Admin from deployments where app_uid = @Uid
                    returning {DeploymentRow.Columns}
                    """, new { row.Uid, source = json, builder, caller.Admin }, cancel);
            await transaction.CommitAsync(cancel);
        }
        catch (PostgresException e) when (e.Violates("deployments_one_at_a_time"))
        {
            throw Problem.Conflict($"A deployment of {row.Name} is still running; wait for its end, or cancel it.");
        }
        if (begun is null)
            throw Problem.NotFound($"There is no app '{row.Name}'.");
        runner.Wake();
        return TypedResults.Accepted($"/v1/apps/{row.Name}/deployments/{begun.Number}", begun.Show());
    }

    private static async Task<Ok<Deployment>> GetAsync(string app, int number, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        return TypedResults.Ok((await DeploymentRow.FindAsync(db, row.Uid, number, cancel)).Show());
    }

    /// <summary>Asks for the end of a deployment; the runner tells the droid-server until it has ended.</summary>
    private static async Task<Accepted<Deployment>> CancelAsync(
        string app, int number, Caller caller, NpgsqlDataSource db, DeploymentRunner runner, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var asked = await db.RunAsync(
            "update deployments set cancel = true where app_uid = @Uid and number = @number and finished_at is null",
                new { row.Uid, number }, cancel);
        var deployment = await DeploymentRow.FindAsync(db, row.Uid, number, cancel);
        if (asked == 0)
            throw Problem.Conflict($"Deployment {number} has ended already: {deployment.State}.");
        runner.Wake();
        return TypedResults.Accepted($"/v1/apps/{row.Name}/deployments/{number}", deployment.Show());
    }
}
