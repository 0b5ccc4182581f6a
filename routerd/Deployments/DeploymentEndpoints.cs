using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Sealing;
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
        group.MapGet("", ListAsync).RequireScope(Scope.Read);
        group.MapPost("", CreateAsync).RequireScope(Scope.Deploy);
        group.MapGet("/{number}", GetAsync).RequireScope(Scope.Read);
        group.MapGet("/{number}/log", DeploymentLog.SendAsync).RequireScope(Scope.Read);
        group.MapPost("/{number}/cancel", CancelAsync).RequireScope(Scope.Deploy);
        v1.MapPost("/apps/{app}/rollback", Rollback.CreateAsync).RequireScope(Scope.Deploy);
        v1.MapPost("/apps/{app}/uploads", Uploads.CreateAsync).RequireScope(Scope.Deploy);
    }

    private static async Task<Ok<Page<Deployment>>> ListAsync(
        string app, [AsParameters] Paging paging, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var deployments = await db.ListAsync<DeploymentRow>(
            $"select {DeploymentRow.Columns} from deployments where app_uid = @Uid and number < @before order by number desc limit @Rows",
            new { row.Uid, before = paging.Number ?? long.MaxValue, paging.Rows }, cancel);
        var next = paging.Cut(deployments, d => $"{d.Number}");
        return TypedResults.Ok(new Page<Deployment>([.. deployments.Select(d => d.Show())], next));
    }

    private static async Task<Accepted<Deployment>> CreateAsync(
        string app, NewDeployment body, Caller caller, NpgsqlDataSource db, SecretBox box, DeploymentRunner runner, Quotas quotas,
        CancellationToken cancel)
    {
        var (source, builder) = Sources.Check(body, caller.Admin);
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var begun = await NewDeployments.BeginAsync(row, new Begin(source, builder, caller.Admin, body.Rebuild == true), db, box, quotas, cancel);
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
