using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Deployments;
using Appoxy.Routerd.Sealing;
using Npgsql;

namespace Appoxy.Routerd.Droids;

/// <summary>What is wanted of an app on its droid-server, put together from Postgres.</summary>
internal static class Spec
{
    /// <summary>
    /// The spec with the deployment that runs, else the last that went live: a failed one is not tried again by a later change.
    /// Null where neither is there.
    /// </summary>
    /// <exception cref="Problem">503: the key of its secrets is missing.</exception>
    public static async Task<(string Server, DroidSpec? Spec)> WantedAsync(
        NpgsqlConnection db, string uid, SecretBox box, CancellationToken cancel)
    {
        var row = await db.FirstAsync<SpecRow>("""
            select a.uid, a.name, a.generation, case when m.frozen then 'stopped' else a.desired end as desired, a.settings, a.formation, p.server,
                   d.number, d.source, d.sealed_url, d.builder, d.by_admin,
                   d.rebuild, d.rollback_to, d.traceparent,
                   (select coalesce(json_agg(json_build_object('id', v.id, 'name', v.name, 'path', v.path) order by v.name), '[]')::text
                    from volumes v where v.app_uid = a.uid) as volumes,
                   (select sealed_private_key from deploy_keys where app_uid = a.uid) as deploy_key
            from apps a
            join placements p on p.app_uid = a.uid
            left join moves m on m.app_uid = a.uid and m.state <> 'failed'
            cross join lateral (
              select number, source, sealed_url, builder, by_admin, rebuild, rollback_to, traceparent from deployments
              where app_uid = a.uid and (finished_at is null or state = 'live')
              order by finished_at is null desc, number desc limit 1) d
            where a.uid = @uid
            """, new { uid }, cancel);
        if (row is null)
            return ("", null);
        var settings = Settings.InForce(row.Settings);
        var source = Sources.Whole(Postgres.FromJson(row.Source, AppoxyJson.Default.DroidSource), row.SealedUrl, box, uid, row.Number);
        return (row.Server, new DroidSpec
        {
            Uid = row.Uid,
            App = row.Name,
            Generation = row.Generation,
            Deployment = row.Number,
            Source = source,
            Builder = row.Builder,
            Buildpacks = Settings.Buildpacks(settings),
            Rebuild = row.Rebuild,
            RollbackTo = row.RollbackTo,
            Trace = row.Traceparent,
            Env = await AppEnv.ReadAsync(db, uid, box, cancel),
            Port = Settings.Port(settings),
            Formation = Scale.Read(row.Formation),
            Limits = Settings.Limits(settings),
            Volumes = Postgres.FromJson(row.Volumes, AppoxyJson.Default.IReadOnlyListDroidVolume),
            Policy = Settings.Policy(settings),
            Desired = row.Desired,
            AllowPrivateSources = row.ByAdmin,
            GitAccess = source.Git is null ? null : new GitAccess(
                row.DeployKey is { } key ? box.Open(key, SealedColumn.DeployKey, uid) : null, await PasswordsAsync(db, uid, box, cancel)),
        });
    }

    private static async Task<IReadOnlyList<GitPassword>> PasswordsAsync(
        NpgsqlConnection db, string uid, SecretBox box, CancellationToken cancel) =>
        [.. (await db.ListAsync<(string Host, string Username, byte[] Sealed)>(
                "select host, username, sealed_password from git_passwords where app_uid = @uid order by host", new { uid }, cancel))
            .Select(p => new GitPassword(p.Host, p.Username, box.Open(p.Sealed, SealedColumn.GitPassword, uid, p.Host)))];

    private sealed record SpecRow
    {
        public string Uid { get; init; } = "";
        public string Name { get; init; } = "";
        public long Generation { get; init; }
        public string Desired { get; init; } = "";
        public string Settings { get; init; } = "{}";
        public string Formation { get; init; } = "{}";
        public string Volumes { get; init; } = "[]";
        public string Server { get; init; } = "";
        public int Number { get; init; }
        public string Source { get; init; } = "{}";
        public string Builder { get; init; } = "";
        public bool ByAdmin { get; init; }
        public bool Rebuild { get; init; }
        public int? RollbackTo { get; init; }
        public string? Traceparent { get; init; }
        public byte[]? SealedUrl { get; init; }
        public byte[]? DeployKey { get; init; }
    }
}
