using System.Security.Cryptography;
using System.Text;
using Appoxy.Nginx;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Templates;

/// <summary>
/// The history of the templates' overrides. The files are what the nginxes read, so that they go on without Postgres; whatever is
/// changed there becomes a version when Postgres can be reached, and a version that is activated becomes the file.
/// </summary>
internal sealed class TemplateVersions(RouterdSettings settings, NpgsqlDataSource db, ILogger<TemplateVersions> log)
    : Rounds(TimeSpan.FromSeconds(2), log)
{
    /// <summary>The longest text of a version, in bytes.</summary>
    public const int MaxBytes = 256 << 10;

    private const string ByFile = "file";
    private const int Kept = 100;
    private const int LockTries = 20;
    private readonly Dictionary<string, string?> seen = [];

    public Task<TemplateFolder> FolderAsync(CancellationToken cancel) =>
        TemplateFolder.ReadAsync(settings.Nginx.Templates, settings.Nginx.TemplateOverrides, cancel);

    /// <summary>The newest versions of a template, newest first.</summary>
    public Task<List<TemplateVersionRow>> ListAsync(string name, int limit, CancellationToken cancel) =>
        db.ListAsync<TemplateVersionRow>("""
            select number, text, sha, author, created_at from template_versions where name = @name order by number desc limit @limit
            """, new { name, limit }, cancel);

    public Task<TemplateVersionRow?> FindAsync(string name, int number, CancellationToken cancel) =>
        db.FirstAsync<TemplateVersionRow>("""
            select number, text, sha, author, created_at from template_versions where name = @name and number = @number
            """, new { name, number }, cancel);

    /// <summary>Why a text can't become a version; null if it can.</summary>
    public static string? Fault(string text) => Encoding.UTF8.GetByteCount(text) > MaxBytes ? $"A template has at most {MaxBytes >> 10} KiB."
        : text.Contains('\0') ? "A template holds no NUL."
        : null;

    /// <summary>
    /// Makes a text the override, saved as a version if <paramref name="apply"/> takes it; otherwise the folder is as before.
    /// </summary>
    /// <param name="name">The template.</param>
    /// <param name="text">Its text; null removes the override.</param>
    /// <param name="by">The admin's email.</param>
    /// <param name="apply">Brings all nginxes to what the folder says, and throws where one refuses.</param>
    /// <param name="cancel">Ends the wait before anything is changed.</param>
    public async Task ActivateAsync(string name, string? text, string by, Func<Task> apply, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        for (var tries = 1; !await TryLockAsync(connection, cancel); tries++)
        {
            if (tries == LockTries)
                throw Problem.Conflict("Another template is being activated. Try again in a moment.");
            await Task.Delay(TimeSpan.FromMilliseconds(100), cancel);
        }
        await NoteAsync(connection, name, text, by, cancel);
        var file = Path.Combine(settings.Nginx.TemplateOverrides, name);
        var before = File.Exists(file) ? await File.ReadAllBytesAsync(file, cancel) : null;
        // From here on it ends one way or the other, even if nobody waits any more.
        try
        {
            await PutAsync(file, text is null ? null : Encoding.UTF8.GetBytes(text));
            await apply();
            await transaction.CommitAsync(CancellationToken.None);
        }
        catch
        {
            await PutAsync(file, before);
            await ((Task)apply()).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            throw;
        }
    }

    /// <summary>Notes what was changed by editing files, once a file has stayed the same for a round.</summary>
    protected override async Task RoundAsync(CancellationToken cancel)
    {
        var folder = await FolderAsync(cancel);
        var newest = await db.ListAsync<(string Name, string? Sha)>(
            "select distinct on (name) name, sha from template_versions order by name, number desc", null, cancel);
        foreach (var name in folder.Names)
        {
            var text = folder.Override(name);
            var settled = seen.TryGetValue(name, out var last) && last == text;
            seen[name] = text;
            if (!settled || newest.Find(v => v.Name == name).Sha == ShaOf(text) || (text is not null && Fault(text) is not null))
                continue;
            await using var connection = await db.OpenConnectionAsync(cancel);
            await using var transaction = await connection.BeginTransactionAsync(cancel);
            // While a text is being activated it lies there, but may not stay.
            if (!await TryLockAsync(connection, cancel))
                continue;
            if ((await FolderAsync(cancel)).Override(name) != text)
                continue;
            await NoteAsync(connection, name, text, ByFile, cancel);
            await transaction.CommitAsync(cancel);
        }
    }

    /// <summary>Held to the end of the transaction, by one routerd at a time.</summary>
    private static Task<bool> TryLockAsync(NpgsqlConnection connection, CancellationToken cancel) =>
        connection.FirstAsync<bool>("select pg_try_advisory_xact_lock(hashtext('appoxy templates'))", null, cancel);

    /// <summary>Adds a version, unless the newest one says the same.</summary>
    private static async Task NoteAsync(NpgsqlConnection connection, string name, string? text, string by, CancellationToken cancel)
    {
        await connection.RunAsync("""
            with newest as (select number, text from template_versions where name = @name order by number desc limit 1)
            insert into template_versions (name, number, text, sha, author)
            select @name, coalesce((select number from newest), 0) + 1, @text, @sha, @by
            where (select text from newest) is distinct from @text;
            delete from template_versions
            where name = @name and number <= (select max(number) from template_versions where name = @name) - @Kept
            """, new { name, text, sha = ShaOf(text), by, Kept }, cancel);
    }

    private static string? ShaOf(string? text) =>
        text is null ? null : Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));

    /// <summary>Writes or removes the override of this machine, in one step; other machines will need to be told as well.</summary>
    private static async Task PutAsync(string file, byte[]? text)
    {
        if (text is null)
        {
            File.Delete(file);
            return;
        }
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        var next = file + ".next";
        await using (var stream = File.Create(next))
        {
            await stream.WriteAsync(text);
            stream.Flush(flushToDisk: true);
        }
        File.Move(next, file, overwrite: true);
    }
}

internal sealed record TemplateVersionRow
{
    public int Number { get; init; }

    /// <summary>Null where the override was removed.</summary>
    public string? Text { get; init; }
    public string? Sha { get; init; }
    public string Author { get; init; } = "";
    public DateTime CreatedAt { get; init; }
}
