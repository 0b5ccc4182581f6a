using Appoxy.Routerd.Database;
using Appoxy.Routerd.Sealing;
using Npgsql;

namespace Appoxy.Routerd.Deployments;

/// <summary>A deployment as Postgres holds it.</summary>
internal sealed record DeploymentRow
{
    public const string Columns =
        "app_uid, number, source, sealed_url, builder, by_admin, state, error, reason, ahead, commit_id, rollback_to, created_at, finished_at";

    public string AppUid { get; init; } = "";
    public int Number { get; init; }
    public string Source { get; init; } = "{}";
    public byte[]? SealedUrl { get; init; }
    public string Builder { get; init; } = "";
    public string State { get; init; } = "";
    public string? Error { get; init; }
    public bool ByAdmin { get; init; }
    public string? Reason { get; init; }
    public int? Ahead { get; init; }
    public int? RollbackTo { get; init; }
    public string? CommitId { get; init; }
    public DateTime CreatedAt { get; init; }
    public DateTime? FinishedAt { get; init; }

    public static Task<List<DeploymentRow>> NewestAsync(NpgsqlDataSource db, string[] uids, CancellationToken cancel) =>
        db.ListAsync<DeploymentRow>(
            $"select distinct on (app_uid) {Columns} from deployments where app_uid = any(@uids) order by app_uid, number desc",
                new { uids }, cancel);

    /// <summary>The deployment of this number.</summary>
    /// <exception cref="Problem">404: there is none.</exception>
    public static async Task<DeploymentRow> FindAsync(NpgsqlDataSource db, string uid, int number, CancellationToken cancel) =>
        await db.FirstAsync<DeploymentRow>(
            $"select {Columns} from deployments where app_uid = @uid and number = @number", new { uid, number }, cancel)
        ?? throw Problem.NotFound($"There is no deployment {number}.");

    /// <summary>Its source with the password that the git address may hold.</summary>
    /// <exception cref="Problem">503: the key is missing.</exception>
    public DroidSource WholeSource(SecretBox box) =>
        Sources.Whole(Postgres.FromJson(Source, AppoxyJson.Default.DroidSource), SealedUrl, box, AppUid, Number);

    /// <summary>As the API shows it: without the password that its git address may hold.</summary>
    public Deployment Show() => new()
    {
        Number = Number,
        State = State,
        Error = Error,
        Reason = Reason,
        Ahead = Ahead,
        RollbackTo = RollbackTo,
        Commit = CommitId,
        Source = Postgres.FromJson(Source, AppoxyJson.Default.DroidSource),
        Builder = Builder,
        CreatedAt = CreatedAt,
        FinishedAt = FinishedAt,
    };
}
