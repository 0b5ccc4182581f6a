using System.Text.Json;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Apps;

/// <summary><c>/v1/apps/{app}/env</c>: an app's environment. Secret: it goes to the caller and to droidd, and to no log.</summary>
internal static class AppEnv
{
    private const int MaxCount = 300;
    private const int MaxValue = 64 << 10;
    private const int MaxTotal = 512 << 10;

    public static async Task<Ok<Dictionary<string, string>>> GetAsync(
        string app, Caller caller, HttpContext http, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        ETags.Send(http, row.Env);
        return TypedResults.Ok(Read(row.Env));
    }

    /// <summary>Sets the variables given, and unsets those given as null.</summary>
    public static async Task<Ok<Dictionary<string, string>>> ChangeAsync(
        string app, Dictionary<string, string> body, Caller caller, HttpContext http, NpgsqlDataSource db, DroidServers servers,
        CancellationToken cancel)
    {
        foreach (var (name, value) in body)
            Check(name, value);
        if (caller.Audit is { } entry)
            entry.Detail = string.Join(", ", body.Select(v => v.Value is null ? "-" + v.Key : v.Key));
        var (uid, env, changed) = await StoreAsync(app, body, caller, http, db, cancel);
        if (changed)
            await servers.PushAsync(uid, cancel);
        return TypedResults.Ok(env);
    }

    private static async Task<(string Uid, Dictionary<string, string> Env, bool Changed)> StoreAsync(
        string app, Dictionary<string, string> change, Caller caller, HttpContext http, NpgsqlDataSource db, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var row = await AppRow.LockAsync(connection, caller, app, cancel);
        ETags.Require(http, row.Env);
        var env = Read(row.Env);
        var changed = false;
        foreach (var (name, value) in change)
        {
            if (value is null)
            {
                changed |= env.Remove(name);
            }
            else if (env.GetValueOrDefault(name) != value)
            {
                env[name] = value;
                changed = true;
            }
        }
        ETags.Send(http, row.Env);
        if (!changed)
            return (row.Uid, env, false);
        if (env.Count > MaxCount)
            throw Problem.BadRequest($"An app has at most {MaxCount} variables.");
        if (env.Sum(e => e.Key.Length + e.Value.Length) > MaxTotal)
            throw Problem.BadRequest($"All variables of an app together have at most {MaxTotal >> 10} kB.");
        await connection.RunAsync("update apps set env = @env::jsonb, generation = generation + 1 where uid = @Uid",
            new { row.Uid, env = JsonSerializer.Serialize(env, AppoxyJson.Default.DictionaryStringString) }, cancel);
        ETags.Send(http, (await AppRow.LockAsync(connection, caller, app, cancel)).Env);
        await transaction.CommitAsync(cancel);
        return (row.Uid, env, true);
    }

    public static Dictionary<string, string> Read(string json) => Postgres.FromJson(json, AppoxyJson.Default.DictionaryStringString);

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
