using System.Security.Cryptography;
using System.Text;
using Appoxy.Nginx;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Templates;

/// <summary>The history of the templates' overrides, in Postgres: what every proxy follows.</summary>
internal sealed class TemplateVersions(NpgsqlDataSource db)
{
    private const int Kept = 100;
    private const int LockTries = 20;

    /// <summary>The newest versions of a template, newest first.</summary>
    public Task<List<TemplateVersionRow>> ListAsync(string name, int limit, CancellationToken cancel, long before = long.MaxValue) =>
        db.ListAsync<TemplateVersionRow>("""
            select number, text, sha, author, created_at from template_versions where name = @name and number < @before
            order by number desc limit @limit
            """, new { name, limit, before }, cancel);

    public Task<TemplateVersionRow?> FindAsync(string name, int number, CancellationToken cancel) =>
        db.FirstAsync<TemplateVersionRow>("""
            select number, text, sha, author, created_at from template_versions where name = @name and number = @number
            """, new { name, number }, cancel);

    /// <summary>Number and SHA of each template's newest version; a template that was never changed is missing.</summary>
    public async Task<Dictionary<string, TemplateVersionId>> NewestAsync(CancellationToken cancel) =>
        (await db.ListAsync<(string Name, int Number, string? Sha)>(
            "select distinct on (name) name, number, sha from template_versions order by name, number desc", null, cancel))
        .ToDictionary(v => v.Name, v => new TemplateVersionId(v.Number, v.Sha));

    /// <summary>The newest version of the template that had this text; null where none had.</summary>
    public Task<int?> NumberAsync(string name, string sha, CancellationToken cancel) =>
        db.FirstAsync<int?>("select max(number) from template_versions where name = @name and sha = @sha", new { name, sha }, cancel);

    /// <summary>Why a text can't become a version; null if it can.</summary>
    public static string? Fault(string text) =>
        Encoding.UTF8.GetByteCount(text) > TemplateFolder.MaxBytes ? $"A template has at most {TemplateFolder.MaxBytes >> 10} KiB."
        : text.Contains('\0') ? "A template holds no NUL."
        : null;

    public static string? ShaOf(string? text) =>
        text is null ? null : Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));

    /// <summary>Lets one change at a time be made, of all routerds; held until disposed. Null where another is being made.</summary>
    public async Task<IAsyncDisposable?> TryLockAsync(CancellationToken cancel)
    {
        var connection = await db.OpenConnectionAsync(cancel);
        try
        {
            var transaction = await connection.BeginTransactionAsync(cancel);
            if (await connection.FirstAsync<bool>("select pg_try_advisory_xact_lock(hashtext('appoxy templates'))", null, cancel))
                return new Held(connection, transaction);
        }
        catch
        {
            await connection.DisposeAsync();
            throw;
        }
        await connection.DisposeAsync();
        return null;
    }

    /// <inheritdoc cref="TryLockAsync"/>
    /// <exception cref="Problem">409: another change is still being made.</exception>
    public async Task<IAsyncDisposable> LockAsync(CancellationToken cancel)
    {
        for (var tries = 1; ; tries++)
        {
            if (await TryLockAsync(cancel) is { } held)
                return held;
            if (tries == LockTries)
                throw Problem.Conflict("Another template is being activated. Try again in a moment.");
            await Task.Delay(TimeSpan.FromMilliseconds(100), cancel);
        }
    }

    /// <summary>Adds a version, unless the newest one says the same; tells all routerds. Only under the lock.</summary>
    /// <param name="name">The template.</param>
    /// <param name="text">Its text; null where the override was removed.</param>
    /// <param name="by">The admin's email, or <c>file</c>.</param>
    /// <param name="cancel">Ends the attempt.</param>
    /// <returns>The newest version from now on.</returns>
    public async Task<TemplateVersionId> AddAsync(string name, string? text, string by, CancellationToken cancel)
    {
        var sha = ShaOf(text);
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var number = await connection.FirstAsync<int>("""
            insert into template_versions (name, number, text, sha, author)
            select @name, coalesce(max(number), 0) + 1, @text, @sha, @by from template_versions where name = @name
            having (select text from template_versions where name = @name order by number desc limit 1) is distinct from @text;
            delete from template_versions
            where name = @name and number <= (select max(number) from template_versions where name = @name) - @Kept;
            select coalesce(max(number), 0) from template_versions where name = @name
            """, new { name, text, sha, by, Kept }, cancel);
        await transaction.CommitAsync(cancel);
        return new TemplateVersionId(number, sha);
    }

    private sealed class Held(NpgsqlConnection connection, NpgsqlTransaction transaction) : IAsyncDisposable
    {
        public async ValueTask DisposeAsync()
        {
            await transaction.DisposeAsync();
            await connection.DisposeAsync();
        }
    }
}

/// <summary>Which version.</summary>
/// <param name="Number">From 1; 0 where there is none.</param>
/// <param name="Sha">SHA-256 of its text, in hex; null where the shipped text holds.</param>
internal sealed record TemplateVersionId(int Number, string? Sha);

internal sealed record TemplateVersionRow
{
    public int Number { get; init; }

    /// <summary>Null where the override was removed.</summary>
    public string? Text { get; init; }
    public string? Sha { get; init; }
    public string Author { get; init; } = "";
    public DateTime CreatedAt { get; init; }
}
