using System.Text.Json;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Apps;

/// <summary><c>/v1/apps/{app}/scale</c>: how many of each process type run.</summary>
internal static class Scale
{
    private const int MaxTypes = 20;
    private static readonly TimeSpan Wait = TimeSpan.FromSeconds(90);
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(200);

    public static async Task<Ok<Page<ProcessScale>>> GetAsync(
        string app, Caller caller, HttpContext http, NpgsqlDataSource db, DroidServers servers, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        ETags.Send(http, row.Formation);
        return TypedResults.Ok(Show(Read(row.Formation), await AskAsync(row, servers, cancel)));
    }

    /// <summary>Changes the counts given, and waits for a while until it is so.</summary>
    public static async Task<Ok<Page<ProcessScale>>> ChangeAsync(
        string app, Dictionary<string, int> body, Caller caller, HttpContext http, NpgsqlDataSource db, DroidServers servers, Quotas quotas,
        TimeProvider time, CancellationToken cancel)
    {
        foreach (var (type, count) in body)
        {
            if (Formations.Fault(type, count) is { } fault)
                throw Problem.BadRequest(fault + ".");
        }
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var droid = await AskAsync(row, servers, cancel);
        // Before the first deployment, and while its droid-server is away, nobody knows which types there are.
        if (droid is { Types: { Count: > 0 } types } && body.Keys.FirstOrDefault(t => types.All(k => k.Type != t)) is { } unknown)
        {
            var known = string.Join(", ", types.Where(t => t.Type != ProcessType.Release).Select(t => t.Type));
            throw Problem.BadRequest($"{row.Name} has no process type '{unknown}'; there {(known.Contains(',') ? "are" : "is")} {known}.");
        }
        var (formation, changed) = await StoreAsync(app, body, caller, http, db, quotas, cancel);
        if (changed && !await servers.PushAsync(row.Uid, cancel) && droid is not null)
            throw Problem.Unavailable($"Droid-server {row.Server} can't do it now; {row.Name} is scaled as soon as it can.");
        droid = await AskAsync(row, servers, cancel);
        var start = time.GetTimestamp();
        while (droid is { Live: not null } && !IsSo(formation, droid) && time.GetElapsedTime(start) < Wait)
        {
            await Task.Delay(Poll, time, cancel);
            droid = await AskAsync(row, servers, cancel);
        }
        return TypedResults.Ok(Show(formation, droid));
    }

    /// <summary>Whether what is there is what is wanted; a process that failed to start is tried no more, so nobody waits for it.</summary>
    private static bool IsSo(IReadOnlyDictionary<string, int> formation, DroidStatus droid) => droid.Types.All(t =>
        droid.Processes.Count(p => TypeOf(p) == t.Type && p.State != DroidStates.Starting) == formation.CountOf(t.Type));

    private static string TypeOf(ProcessStatus process) => process.Name[..process.Name.LastIndexOf('.')];

    private static async Task<DroidStatus?> AskAsync(AppRow row, DroidServers servers, CancellationToken cancel)
    {
        try
        {
            return await servers[row.Server].FindAsync(row.Uid, cancel);
        }
        catch (Problem)
        {
            return null;
        }
    }

    private static async Task<(Dictionary<string, int> Formation, bool Changed)> StoreAsync(
        string app, Dictionary<string, int> change, Caller caller, HttpContext http, NpgsqlDataSource db, Quotas quotas, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var row = await AppRow.LockAsync(connection, caller, app, cancel);
        ETags.Require(http, row.Formation);
        ETags.Send(http, row.Formation);
        var formation = Read(row.Formation);
        var changed = false;
        foreach (var (type, count) in change)
        {
            changed |= formation.CountOf(type) != count;
            formation[type] = count;
        }
        if (!changed)
            return (formation, false);
        if (formation.Count > MaxTypes)
            throw Problem.BadRequest($"An app has at most {MaxTypes} process types.");
        var json = JsonSerializer.Serialize(formation, AppoxyJson.Default.DictionaryStringInt32);
        await connection.RunAsync("update apps set formation = @json::jsonb, generation = generation + 1 where uid = @Uid",
            new { row.Uid, json }, cancel);
        await quotas.CheckAppAsync(connection, row.Uid, Quotas.Between((row.Settings, row.Formation), (row.Settings, json)), cancel);
        if (caller.Audit is { } entry)
            entry.Detail = string.Join(", ", change.Select(c => $"{c.Key}={c.Value}"));
        ETags.Send(http, (await AppRow.LockAsync(connection, caller, app, cancel)).Formation);
        await transaction.CommitAsync(cancel);
        return (formation, true);
    }

    public static Dictionary<string, int> Read(string json) => Postgres.FromJson(json, AppoxyJson.Default.DictionaryStringInt32);

    /// <summary>The types that there are and those that were given a count, web first.</summary>
    private static Page<ProcessScale> Show(Dictionary<string, int> formation, DroidStatus? droid)
    {
        var types = (droid?.Types ?? []).Select(t => t.Type).Append(ProcessType.Web).Concat(formation.Keys)
            .Where(t => t != ProcessType.Release).Distinct().OrderBy(t => t != ProcessType.Web).ThenBy(t => t, StringComparer.Ordinal);
        return new Page<ProcessScale>([.. types.Select(type => new ProcessScale(
            type, formation.CountOf(type), droid?.Processes.Count(p => TypeOf(p) == type && p.State == DroidStates.Running) ?? 0,
            droid?.Types.FirstOrDefault(t => t.Type == type)?.Command,
            droid?.Processes.FirstOrDefault(p => TypeOf(p) == type && p.State == DroidStates.Failed) is { } failed ? $"{failed.Name} {failed.Error}" : null))]);
    }
}
