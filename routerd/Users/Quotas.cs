using System.Globalization;
using System.Text.Json;
using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Users;

/// <summary>The user or the team that a quota is of.</summary>
/// <param name="User">The user's id; null for a team.</param>
/// <param name="Team">The team's id; null for a user.</param>
/// <param name="Stored">What an admin has set, as JSON.</param>
/// <param name="Admin">Whether it is an admin, whom only an admin's own setting bounds.</param>
internal sealed record QuotaOwner(long? User, long? Team, string Stored, bool Admin)
{
    public static QuotaOwner Of(UserRow user) => new(user.Id, null, user.Quota, user.Role == Caller.AdminRole);
}

/// <summary>What may have grown, and is to be checked.</summary>
[Flags]
internal enum Growth { None = 0, Apps = 1, Memory = 2, Cpus = 4, Builds = 8, Teams = 16 }

/// <summary>
/// What users and teams may have. It is checked after a change and before its commit, while the owner's row is held: of two changes at
/// once, one sees the other.
/// </summary>
internal sealed class Quotas(RouterdSettings settings)
{
    private const string Unlimited = "unlimited";
    private const string Default = "default";
    private const int MaxCounted = 10_000;

    public static readonly QuotaRule[] Rules =
    [
        new("apps", Growth.Apps, q => q.Apps, (q, v) => q with { Apps = v }, Count, Plain, "a number such as 20"),
        new("memory", Growth.Memory, q => q.Memory, (q, v) => q with { Memory = v }, Bytes, v => Quantities.FormatBytes((long)v), "a size such as 8g"),
        new("cpus", Growth.Cpus, q => q.Cpus, (q, v) => q with { Cpus = v }, Number, Plain, "a number such as 4 or 1.5"),
        new("builds", Growth.Builds, q => q.Builds, (q, v) => q with { Builds = v }, Count, Plain, "a number such as 2"),
        new("buildsPerDay", Growth.Builds, q => q.BuildsPerDay, (q, v) => q with { BuildsPerDay = v }, Count, Plain, "a number such as 200"),
        new("teams", Growth.Teams, q => q.Teams, (q, v) => q with { Teams = v }, Count, Plain, "a number such as 2"),
    ];

    /// <summary>Why these can't be the settings' defaults.</summary>
    public static IEnumerable<string> Faults(Quota defaults) => Rules.Where(r => r.Of(defaults) is not { } text || (text != Unlimited && r.Parse(text) is null))
        .Select(r => $"quotas: {r.Name} is '{r.Of(defaults)}': give {r.Example}, or unlimited");

    /// <summary>What is stored after <paramref name="change"/>, as JSON.</summary>
    /// <exception cref="Problem">400, with a line that names what is at fault.</exception>
    public static string Merge(string stored, Quota change)
    {
        var quota = Read(stored);
        foreach (var rule in Rules)
        {
            if (rule.Of(change) is not { } text)
                continue;
            quota = rule.With(quota, text switch
            {
                Default => null,
                Unlimited => text,
                _ => rule.Parse(text) is { } value ? rule.Format(value)
                    : throw Problem.BadRequest($"quota: {rule.Name}: give {rule.Example}, unlimited or default."),
            });
        }
        return JsonSerializer.Serialize(quota, AppoxyJson.Default.Quota);
    }

    public Quota InForce(QuotaOwner owner)
    {
        var quota = Read(owner.Stored);
        return Rules.Aggregate(quota, (q, rule) => rule.With(q, rule.Of(quota) ?? (owner.Admin ? Unlimited : rule.Of(settings.Quotas))));
    }

    public async Task<Quota> UsageAsync(NpgsqlDataSource db, QuotaOwner owner, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        var used = await CountAsync(connection, owner, Growth.Apps | Growth.Memory | Growth.Cpus | Growth.Builds | Growth.Teams, cancel);
        return Rules.Aggregate(new Quota(), (q, rule) => used.TryGetValue(rule.Name, out var value) && value < long.MaxValue ? rule.With(q, rule.Format(value)) : q);
    }

    /// <summary>Refuses what an app's owner may not have, within the transaction that made it so.</summary>
    /// <exception cref="Problem">403, or 409 for what will be allowed once builds have ended; it names the quota.</exception>
    public async Task CheckAppAsync(NpgsqlConnection connection, string uid, Growth growth, CancellationToken cancel)
    {
        if (growth != Growth.None && await connection.FirstAsync<OwnerRow>("""
            select u.id as user, t.id as team, coalesce(u.quota, t.quota) as stored, coalesce(u.role = 'admin', false) as admin
            from apps a left join users u on u.id = a.owner_id left join teams t on t.id = a.team_id
            where a.uid = @uid and (u.id is not null or t.id is not null)
            """, new { uid }, cancel) is { } row)
            await CheckAsync(connection, new QuotaOwner(row.User, row.Team, row.Stored, row.Admin), growth, cancel);
    }

    /// <summary>As <see cref="CheckAppAsync"/>, for an owner that is known.</summary>
    public async Task CheckAsync(NpgsqlConnection connection, QuotaOwner owner, Growth growth, CancellationToken cancel)
    {
        var quota = InForce(owner);
        var bounds = Rules.Where(r => growth.HasFlag(r.Growth) && r.Of(quota) is { } text && text != Unlimited).ToList();
        if (bounds.Count == 0)
            return;
        await connection.RunAsync(owner.Team is null
            ? "select 1 from users where id = @User for no key update" : "select 1 from teams where id = @Team for no key update", owner, cancel);
        var used = await CountAsync(connection, owner, bounds.Aggregate(Growth.None, (all, r) => all | r.Growth), cancel);
        foreach (var rule in bounds)
        {
            if (used[rule.Name] <= rule.Parse(rule.Of(quota)!))
                continue;
            var whose = owner.Team is null ? "" : "The team's ";
            var detail = $"{whose}{(whose.Length > 0 ? "quota" : "Quota")} {rule.Name} is {rule.Of(quota)}, and this makes {rule.Format(used[rule.Name])}.";
            throw rule.Name == "builds" ? Problem.Conflict(detail + " Wait until a build has ended.")
                : Problem.Forbidden(detail + " An admin can raise it.");
        }
    }

    private static async Task<Dictionary<string, decimal>> CountAsync(
        NpgsqlConnection connection, QuotaOwner owner, Growth growth, CancellationToken cancel)
    {
        var used = new Dictionary<string, decimal>();
        var mine = owner.Team is null ? "owner_id = @User" : "team_id = @Team";
        if (growth.HasFlag(Growth.Apps))
            used["apps"] = await connection.FirstAsync<long>($"select count(*) from apps where {mine}", owner, cancel);
        if ((growth & (Growth.Memory | Growth.Cpus)) != 0)
        {
            var apps = await connection.ListAsync<(string Settings, string Formation)>(
                $"select settings, formation from apps where {mine} limit {MaxCounted + 1}", owner, cancel);
            // Nobody who is bounded by bytes has so many.
            var needs = apps.Count > MaxCounted ? null : apps.Select(a => Needs(a.Settings, a.Formation)).ToList();
            used["memory"] = needs?.Sum(n => n.Memory) ?? long.MaxValue;
            used["cpus"] = needs?.Sum(n => n.Cpus) ?? long.MaxValue;
        }
        if (growth.HasFlag(Growth.Builds))
        {
            (used["builds"], used["buildsPerDay"]) = await connection.FirstAsync<(long, long)>($"""
                select count(*) filter (where d.finished_at is null), count(*) filter (where d.created_at > now() - interval '1 day')
                from deployments d join apps a on a.uid = d.app_uid
                where a.{mine} and d.rollback_to is null and d.source ->> 'image' is null
                  and (d.finished_at is null or d.created_at > now() - interval '1 day')
                """, owner, cancel);
        }
        if (growth.HasFlag(Growth.Teams) && owner.Team is null)
            used["teams"] = await connection.FirstAsync<long>("select count(*) from team_members where user_id = @User and role = 'owner'", owner, cancel);
        return used;
    }

    /// <summary>What all processes of an app may use at once.</summary>
    private static (decimal Memory, decimal Cpus) Needs(string settings, string formation)
    {
        var (limits, counts) = (Settings.Limits(Settings.InForce(settings)), Scale.Read(formation));
        var processes = counts.Keys.Append(ProcessType.Web).Distinct().Sum(t => counts.CountOf(t));
        return ((decimal)limits.MemoryBytes * processes, (decimal)limits.Cpus * processes);
    }

    /// <summary>What grows where an app's settings or formation change so.</summary>
    public static Growth Between((string Settings, string Formation) before, (string Settings, string Formation) after)
    {
        var (old, next) = (Needs(before.Settings, before.Formation), Needs(after.Settings, after.Formation));
        return (next.Memory > old.Memory ? Growth.Memory : Growth.None) | (next.Cpus > old.Cpus ? Growth.Cpus : Growth.None);
    }

    private static Quota Read(string stored) => Postgres.FromJson(stored, AppoxyJson.Default.Quota);

    private static decimal? Count(string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var count) ? count : null;

    private static decimal? Bytes(string text) => Quantities.TryParseBytes(text, out var bytes) ? bytes : null;

    private static decimal? Number(string text) =>
        decimal.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number) && number <= 1_000_000 ? number : null;

    private static string Plain(decimal value) => value.ToString("0.###", CultureInfo.InvariantCulture);

    private sealed record OwnerRow
    {
        public long? User { get; init; }
        public long? Team { get; init; }
        public string Stored { get; init; } = "{}";
        public bool Admin { get; init; }
    }
}

/// <summary>One thing that is bounded.</summary>
/// <param name="Name">As users write it.</param>
/// <param name="Growth">By which it is checked.</param>
/// <param name="Of">Its text in a quota.</param>
/// <param name="With">The quota with another text.</param>
/// <param name="Parse">The number; null where it is none.</param>
/// <param name="Format">The text that reads back as it.</param>
/// <param name="Example">What a user is to give.</param>
internal sealed record QuotaRule(
    string Name, Growth Growth, Func<Quota, string?> Of, Func<Quota, string?, Quota> With, Func<string, decimal?> Parse,
    Func<decimal, string> Format, string Example);
