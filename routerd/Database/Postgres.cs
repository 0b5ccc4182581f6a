using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Dapper;
using Npgsql;

namespace Appoxy.Routerd.Database;

/// <summary>How routerd speaks to Postgres: bounded waits, columns named as in SQL, and JSON columns as text.</summary>
internal static class Postgres
{
    public static NpgsqlDataSource Open(RouterdSettings settings)
    {
        DefaultTypeMap.MatchNamesWithUnderscores = true;
        // The name is a label of what Npgsql counts, in place of the connection string.
        return new NpgsqlDataSourceBuilder(ConnectionString(settings)) { Name = "appoxy" }.Build();
    }

    public static string ConnectionString(RouterdSettings settings) => new NpgsqlConnectionStringBuilder(settings.Postgres)
    {
        Timeout = 5,
        CommandTimeout = 8,
        CancellationTimeout = 500,
        MaxPoolSize = 20,
        KeepAlive = 10,
        ApplicationName = "routerd " + settings.Name,
    }.ConnectionString;

    public static T FromJson<T>(string text, JsonTypeInfo<T> type) =>
        JsonSerializer.Deserialize(text, type) ?? throw new JsonException("a JSON column holds null");

    /// <summary>All rows.</summary>
    public static async Task<List<T>> ListAsync<T>(this NpgsqlDataSource db, string sql, object? values, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        return await connection.ListAsync<T>(sql, values, cancel);
    }

    /// <summary>The first row, or the default without one.</summary>
    public static async Task<T?> FirstAsync<T>(this NpgsqlDataSource db, string sql, object? values, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        return await connection.FirstAsync<T>(sql, values, cancel);
    }

    /// <summary>How many rows were changed.</summary>
    public static async Task<int> RunAsync(this NpgsqlDataSource db, string sql, object? values, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        return await connection.RunAsync(sql, values, cancel);
    }

    public static async Task<List<T>> ListAsync<T>(
        this NpgsqlConnection connection, string sql, object? values, CancellationToken cancel) =>
        [.. await connection.QueryAsync<T>(new CommandDefinition(sql, values, cancellationToken: cancel))];

    public static Task<T?> FirstAsync<T>(this NpgsqlConnection connection, string sql, object? values, CancellationToken cancel) =>
        connection.QueryFirstOrDefaultAsync<T>(new CommandDefinition(sql, values, cancellationToken: cancel));

    public static Task<int> RunAsync(this NpgsqlConnection connection, string sql, object? values, CancellationToken cancel) =>
        connection.ExecuteAsync(new CommandDefinition(sql, values, cancellationToken: cancel));

    /// <summary>Whether it is the violation of this unique constraint.</summary>
    public static bool Violates(this PostgresException e, string constraint) =>
        e.SqlState == PostgresErrorCodes.UniqueViolation && e.ConstraintName == constraint;
}
