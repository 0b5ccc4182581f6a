using Appoxy.Routerd.Database;
using Appoxy.Routerd.Sealing;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Apps;

/// <summary><c>/v1/apps/{app}/env</c>: an app's environment. Secret: sealed in Postgres; it goes to the caller and to droidd, and to no log.</summary>
internal static class AppEnv
{
    private const int MaxCount = 300;
    private const int MaxValue = 64 << 10;
    private const int MaxTotal = 512 << 10;

    public static async Task<Ok<Dictionary<string, string>>> GetAsync(
        string app, Caller caller, HttpContext http, NpgsqlDataSource db, SecretBox box, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        await using var connection = await db.OpenConnectionAsync(cancel);
        var stored = await StoredAsync(connection, row.Uid, cancel);
        var env = Open(stored, row.Uid, box);
        ETags.Send(http, Version(stored));
        return TypedResults.Ok(env);
    }

    /// <summary>Sets the variables given, and unsets those given as null.</summary>
    public static async Task<Ok<Dictionary<string, string>>> ChangeAsync(
        string app, Dictionary<string, string> body, Caller caller, HttpContext http, NpgsqlDataSource db, SecretBox box, DroidServers servers,
        CancellationToken cancel)
    {
        foreach (var (name, value) in body)
            Check(name, value);
        if (caller.Audit is { } entry)
            entry.Detail = string.Join(", ", body.Select(v => v.Value is null ? "-" + v.Key : v.Key));
        var (uid, env, changed) = await StoreAsync(app, body, caller, http, db, box, cancel);
        if (changed)
            await servers.PushAsync(uid, cancel);
        return TypedResults.Ok(env);
    }

    private static async Task<(string Uid, Dictionary<string, string> Env, bool Changed)> StoreAsync(
        string app, Dictionary<string, string> change, Caller caller, HttpContext http, NpgsqlDataSource db, SecretBox box,
        CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var row = await AppRow.LockAsync(connection, caller, app, cancel);
        var stored = await StoredAsync(connection, row.Uid, cancel);
        ETags.Require(http, Version(stored));
        var env = Open(stored, row.Uid, box);
        var changed = new List<string>();
        foreach (var (name, value) in change)
        {
            if (value is null)
            {
                if (env.Remove(name))
                    changed.Add(name);
            }
            else if (env.GetValueOrDefault(name) != value)
            {
                env[name] = value;
                changed.Add(name);
            }
        }
        ETags.Send(http, Version(stored));
        if (changed.Count == 0)
            return (row.Uid, env, false);
        if (env.Count > MaxCount)
            throw Problem.BadRequest($"An app has at most {MaxCount} variables.");
        if (env.Sum(e => e.Key.Length + e.Value.Length) > MaxTotal)
            throw Problem.BadRequest($"All variables of an app together have at most {MaxTotal >> 10} kB.");
        foreach (var name in changed)
        {
            var sealed_ = env.TryGetValue(name, out var value) ? box.Seal(value, SealedColumn.Env, row.Uid, name) : null;
            await connection.RunAsync(sealed_ is null ? "delete from app_env where app_uid = @Uid and name = @name" : """
                insert into app_env (app_uid, name, sealed_value) values (@Uid, @name, @sealed_)
                on conflict (app_uid, name) do update set sealed_value = excluded.sealed_value
                """, new { row.Uid, name, sealed_ }, cancel);
        }
        await connection.RunAsync("update apps set generation = generation + 1 where uid = @Uid", row, cancel);
        ETags.Send(http, Version(await StoredAsync(connection, row.Uid, cancel)));
        await transaction.CommitAsync(cancel);
        return (row.Uid, env, true);
    }

    /// <exception cref="Problem">503: the key is missing.</exception>
    public static async Task<Dictionary<string, string>> ReadAsync(NpgsqlConnection db, string uid, SecretBox box, CancellationToken cancel) =>
        Open(await StoredAsync(db, uid, cancel), uid, box);

    private static Task<List<(string Name, byte[] Sealed)>> StoredAsync(NpgsqlConnection db, string uid, CancellationToken cancel) =>
        db.ListAsync<(string, byte[])>("select name, sealed_value from app_env where app_uid = @uid order by name", new { uid }, cancel);

    private static Dictionary<string, string> Open(List<(string Name, byte[] Sealed)> stored, string uid, SecretBox box) =>
        stored.ToDictionary(v => v.Name, v => box.Open(v.Sealed, SealedColumn.Env, uid, v.Name), StringComparer.Ordinal);

    // Of the envelopes, so that a tag tells nothing of what is in them.
    private static string Version(List<(string Name, byte[] Sealed)> stored) =>
        string.Join(' ', stored.Select(v => v.Name + Convert.ToHexString(v.Sealed)));

    private static void Check(string name, string? value)
    {
        if (!Names.IsEnvName(name))
            throw Problem.BadRequest("A variable's name has letters, digits and _, does not start with a digit, and is at most 128 long.");
        if (name == "PORT")
            throw Problem.BadRequest("PORT is set by Appoxy; the setting port says which port the app listens on.");
        if (value is not null && (value.Length > MaxValue || value.Contains('\0', StringComparison.Ordinal)))
            throw Problem.BadRequest($"{name}: a value has at most {MaxValue >> 10} kB and no NUL.");
    }
}
