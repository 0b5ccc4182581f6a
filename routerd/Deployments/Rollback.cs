using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Sealing;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Deployments;

/// <summary>
/// <c>POST /v1/apps/{app}/rollback</c>: an earlier version's image runs again, as a new deployment and without a build. It gets the
/// environment and settings of now, as every deployment does.
/// </summary>
internal static class Rollback
{
    public static async Task<Accepted<Deployment>> CreateAsync(
        string app, NewRollback? body, Caller caller, NpgsqlDataSource db, SecretBox box, DroidServers servers, DeploymentRunner runner,
        Quotas quotas, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var live = await db.ListAsync<DeploymentRow>(
            $"select {DeploymentRow.Columns} from deployments where app_uid = @Uid and state = 'live' order by number desc", row, cancel);
        if (live is not [var serving, ..])
            throw Problem.Conflict($"{row.Name} has nothing live yet; deploy it first.");
        var kept = await servers[row.Server].KeptAsync(row.Uid, cancel);
        var target = body?.Deployment is { } number
            ? Wanted(row, number, live, kept)
            : Before(row, serving, live, kept);
        var begin = new Begin(target.WholeSource(box), target.Builder, target.ByAdmin, Rebuild: false, target.Number);
        var begun = await NewDeployments.BeginAsync(row, begin, db, box, quotas, cancel);
        runner.Wake();
        return TypedResults.Accepted($"/v1/apps/{row.Name}/deployments/{begun.Number}", begun.Show());
    }

    private static DeploymentRow Wanted(AppRow app, int number, List<DeploymentRow> live, IReadOnlyList<KeptImage> kept)
    {
        if (live[0].Number == number)
            throw Problem.Conflict($"Deployment {number} is the one that serves.");
        var wanted = live.Find(d => d.Number == number)
            ?? throw Problem.Conflict($"There is no deployment {number} of {app.Name} that was live.");
        if (kept.Any(k => k.Deployment == number))
            return wanted;
        var others = live.Skip(1).Where(d => kept.Any(k => k.Deployment == d.Number)).Select(d => d.Number).ToList();
        throw Problem.Conflict($"The image of deployment {number} is not kept any more; deploy its source again."
            + (others.Count == 0 ? "" : $" Kept are those of {string.Join(", ", others)}."));
    }

    /// <summary>The newest version before the one that serves that is another image than it.</summary>
    private static DeploymentRow Before(AppRow app, DeploymentRow serving, List<DeploymentRow> live, IReadOnlyList<KeptImage> kept)
    {
        var image = kept.FirstOrDefault(k => k.Deployment == serving.Number)?.Image;
        return live.Skip(1).FirstOrDefault(d => kept.Any(k => k.Deployment == d.Number && k.Image != image))
            ?? throw Problem.Conflict(live.Count == 1
                ? $"{app.Name} has had no version before this one."
                : $"No image of an earlier version of {app.Name} is kept any more; deploy its source again.");
    }
}
