using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Appoxy.Nginx;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Templates;

/// <summary>
/// Keeps this machine's templates folder and the history in Postgres the same. The files are what the nginxes read, so that they go
/// on without Postgres. A newer version becomes the file; a file that was edited here becomes a version, for all machines, once
/// this one serves by it. What was in step last is kept in a file, which tells the one from the other.
/// </summary>
internal sealed partial class TemplateSync(
    RouterdSettings settings, NpgsqlDataSource db, TemplateVersions versions, TemplatedNginxes nginxes, Proxies proxies,
    ILogger<TemplateSync> log, TimeProvider time) : Rounds(TimeSpan.FromSeconds(1), log)
{
    private const string ByFile = "file";
    private static readonly TimeSpan Poll = TimeSpan.FromSeconds(1);

    /// <summary>How long an edited file must stay the same to be taken for finished.</summary>
    private static readonly TimeSpan Settled = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan RetryAfter = TimeSpan.FromSeconds(10);

    private readonly string stateFile = Path.Combine(settings.Nginx.Root, "templates.json");
    private readonly SemaphoreSlim gate = new(1, 1);
    private readonly Dictionary<string, (string? Text, DateTimeOffset Since)> seen = [];
    private readonly Dictionary<string, (string? Sha, DateTimeOffset At)> refused = [];
    private Dictionary<string, TemplateVersionId>? synced;

    /// <summary>The templates as they lie on this machine.</summary>
    public Task<TemplateFolder> FolderAsync(CancellationToken cancel) =>
        TemplateFolder.ReadAsync(settings.Nginx.Templates, settings.Nginx.TemplateOverrides, cancel);

    /// <summary>Follows versions until Postgres goes away: at once when one is added, and looks each second, at the files too.</summary>
    protected override async Task RoundAsync(CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        var notified = false;
        connection.Notification += (_, _) => notified = true;
        await connection.RunAsync("listen appoxy_templates", null, cancel);
        while (true)
        {
            notified = false;
            await FollowAsync(cancel);
            if (!notified)
                await connection.WaitAsync(Poll, cancel);
        }
    }

    /// <summary>
    /// Makes a text the override of this machine and a version, if all nginxes here serve by it; otherwise the folder is as before.
    /// Only under the lock of <see cref="TemplateVersions"/>.
    /// </summary>
    /// <param name="name">The template.</param>
    /// <param name="text">Its text; null removes the override.</param>
    /// <param name="by">The admin's email.</param>
    /// <param name="cancel">Ends the wait before anything is changed.</param>
    /// <returns>The version, and what became of the nginxes.</returns>
    /// <exception cref="TemplateException">An nginx of this machine refuses it.</exception>
    public async Task<(TemplateVersionId Version, List<TemplateStatus> Statuses)> PutAsync(
        string name, string? text, string by, CancellationToken cancel)
    {
        await gate.WaitAsync(cancel);
        try
        {
            var before = (await FolderAsync(cancel)).Override(name);
            TemplateVersionId version;
            List<TemplateStatus> statuses;
            // From here on it ends one way or the other, even if nobody waits any more.
            try
            {
                await WriteAsync(name, text);
                statuses = await nginxes.ApplyAsync(name, CancellationToken.None);
                if (statuses.Find(s => s.Error is not null)?.Error is { } fault)
                    throw new TemplateException(fault);
                version = await versions.AddAsync(name, text, by, CancellationToken.None);
            }
            catch
            {
                await WriteAsync(name, before);
                await ((Task)nginxes.ApplyAsync(name, CancellationToken.None)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                throw;
            }
            await NoteAsync(name, version);
            await proxies.EndAsync([(name, new TemplateOutcome(version.Number))], CancellationToken.None);
            return (version, statuses);
        }
        finally
        {
            gate.Release();
        }
    }

    /// <summary>Brings folder and history together, as far as that is clear now.</summary>
    /// <exception cref="NpgsqlException">Postgres is away: the files hold.</exception>
    public async Task FollowAsync(CancellationToken cancel)
    {
        await gate.WaitAsync(cancel);
        try
        {
            synced ??= await ReadStateAsync(cancel);
            var folder = await FolderAsync(cancel);
            var newest = await versions.NewestAsync(cancel);
            var changed = new List<string>();
            foreach (var name in folder.Names)
            {
                await FollowAsync(name, folder, newest.GetValueOrDefault(name) ?? new TemplateVersionId(0, null), cancel);
                if (synced.TryGetValue(name, out var version) && proxies.Outcome(name)?.Number != version.Number)
                    changed.Add(name);
            }
            if (changed.Count == 0)
                return;
            await proxies.BeginAsync(cancel);
            var outcomes = new List<(string, TemplateOutcome)>();
            foreach (var name in changed)
                outcomes.Add((name, new TemplateOutcome(synced[name].Number, await nginxes.RefusalAsync(name, cancel))));
            await proxies.EndAsync(outcomes, cancel);
        }
        finally
        {
            gate.Release();
        }
    }

    private async Task FollowAsync(string name, TemplateFolder folder, TemplateVersionId newest, CancellationToken cancel)
    {
        var text = folder.Override(name);
        var (sha, faulty) = (TemplateVersions.ShaOf(text), folder.IsFaulty(name));
        if (!seen.TryGetValue(name, out var last) || last.Text != text)
            seen[name] = last = (text, time.GetUtcNow());
        if (!faulty && sha == newest.Sha)
        {
            refused.Remove(name);
            await NoteAsync(name, newest);
            return;
        }
        // Where the whole folder is missing, nobody has removed a text in order to go back to the shipped one.
        var before = Directory.Exists(settings.Nginx.TemplateOverrides) ? synced!.GetValueOrDefault(name) : null;
        var newer = newest.Number > (before?.Number ?? 0);
        var untouched = !faulty && (before is not null ? sha == before.Sha
            : sha is null || await versions.NumberAsync(name, sha, cancel) is not null);
        if (newer && untouched)
            await TakeAsync(name, newest, cancel);
        else if (time.GetUtcNow() - last.Since >= Settled && (faulty || !await OfferAsync(name, text, sha, cancel)) && newer)
            await TakeAsync(name, newest, cancel, asideTo: Path.Combine(settings.Nginx.TemplateOverrides, name + ".refused"));
    }

    /// <summary>Makes a text that was edited here a version, if the nginxes take it; false where they refuse it.</summary>
    private async Task<bool> OfferAsync(string name, string? text, string? sha, CancellationToken cancel)
    {
        if (refused.TryGetValue(name, out var refusal) && refusal.Sha == sha && time.GetUtcNow() - refusal.At < RetryAfter)
            return false;
        if ((text is not null && TemplateVersions.Fault(text) is not null)
            || await nginxes.RefusalAsync(name, cancel) is not null || await nginxes.LocalRefusalAsync(name, text, cancel) is not null)
        {
            refused[name] = (sha, time.GetUtcNow());
            return false;
        }
        await using var held = await versions.TryLockAsync(cancel);
        // While a text is being activated elsewhere that one comes first.
        if (held is not null && (await FolderAsync(cancel)).Override(name) == text)
            await NoteAsync(name, await versions.AddAsync(name, text, ByFile, cancel));
        return true;
    }

    /// <summary>Makes a version the override of this machine.</summary>
    /// <param name="name">The template.</param>
    /// <param name="version">The version.</param>
    /// <param name="cancel">Ends the attempt.</param>
    /// <param name="asideTo">Where to move what lies there, as somebody wrote it.</param>
    private async Task TakeAsync(string name, TemplateVersionId version, CancellationToken cancel, string? asideTo = null)
    {
        if (await versions.FindAsync(name, version.Number, cancel) is not { } row)
            return;
        if (asideTo is not null && File.Exists(PathOf(name)))
            File.Move(PathOf(name), asideTo, overwrite: true);
        await WriteAsync(name, row.Text);
        await NoteAsync(name, version);
        LogTook(log, name, version.Number, row.Author);
    }

    private string PathOf(string name) => Path.Combine(settings.Nginx.TemplateOverrides, name);

    /// <summary>Writes or removes the override of this machine, in one step.</summary>
    private async Task WriteAsync(string name, string? text)
    {
        Directory.CreateDirectory(settings.Nginx.TemplateOverrides);
        if (text is null)
            File.Delete(PathOf(name));
        else
            await ReplaceAsync(PathOf(name), Encoding.UTF8.GetBytes(text));
    }

    private async Task NoteAsync(string name, TemplateVersionId version)
    {
        synced ??= await ReadStateAsync(CancellationToken.None);
        if (synced.GetValueOrDefault(name) == version)
            return;
        synced[name] = version;
        Directory.CreateDirectory(settings.Nginx.Root);
        await ReplaceAsync(stateFile, JsonSerializer.SerializeToUtf8Bytes(synced, SyncJson.Default.DictionaryStringTemplateVersionId));
    }

    private async Task<Dictionary<string, TemplateVersionId>> ReadStateAsync(CancellationToken cancel)
    {
        try
        {
            var state = await File.ReadAllBytesAsync(stateFile, cancel);
            return JsonSerializer.Deserialize(state, SyncJson.Default.DictionaryStringTemplateVersionId) ?? [];
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException or JsonException)
        {
            return [];
        }
    }

    private static async Task ReplaceAsync(string file, byte[] content)
    {
        var next = file + ".next";
        await using (var stream = File.Create(next))
        {
            await stream.WriteAsync(content);
            stream.Flush(flushToDisk: true);
        }
        File.Move(next, file, overwrite: true);
    }

    public override void Dispose()
    {
        base.Dispose();
        gate.Dispose();
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "{Template} is at version {Number} here, by {Author}")]
    private static partial void LogTook(ILogger log, string template, int number, string author);
}

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web)]
[JsonSerializable(typeof(Dictionary<string, TemplateVersionId>))]
internal sealed partial class SyncJson : JsonSerializerContext;
