using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Sealing;

/// <summary>Brings secrets that are sealed with an older key to the newest, in small batches, while all else goes on.</summary>
internal sealed partial class Resealing(NpgsqlDataSource db, SecretKeys keys, SecretBox box, ILogger<Resealing> log)
    : Rounds(TimeSpan.FromMinutes(5), log)
{
    private const int Batch = 200;

    protected override async Task RoundAsync(CancellationToken cancel)
    {
        if (!keys.Exists)
            return;
        foreach (var column in SealedColumn.All)
            await ResealAsync(column, cancel);
    }

    private async Task ResealAsync(SealedColumn column, CancellationToken cancel)
    {
        var newest = keys.Newest.Id;
        string[] older = [.. keys.All.Select(k => k.Id).Where(id => id != newest)];
        if (older.Length == 0)
            return;
        var due = await db.ListAsync<string>($"select ctid::text from {column.Table} where {column.KeyId} = any(@older)", new { older }, cancel);
        var (done, faults) = (0, 0);
        foreach (var places in due.Chunk(Batch))
        {
            var rows = await db.ListAsync<SealedRow>($"""
                select ctid::text as place, array[{string.Join(", ", column.Row.Select(r => r + "::text"))}] as row, {column.Name} as envelope
                from {column.Table} where ctid = any(@places::tid[]) and {column.Name} is not null
                """, new { places }, cancel);
            foreach (var row in rows)
            {
                try
                {
                    var next = box.Seal(box.Open(row.Envelope, column, row.Row), column, row.Row);
                    // One that was changed meanwhile is under the newest key, or is found by the next round.
                    done += await db.RunAsync($"update {column.Table} set {column.Name} = @next where ctid = @Place::tid and {column.Name} = @Envelope",
                        new { next, row.Place, row.Envelope }, cancel);
                }
                catch (Problem)
                {
                    faults++;
                }
            }
        }
        if (due.Count > 0)
            LogResealed(log, column.Table, column.Name, done, due.Count, faults);
    }

    private sealed record SealedRow
    {
        public string Place { get; init; } = "";
        public string[] Row { get; init; } = [];
        public byte[] Envelope { get; init; } = [];
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Sealed {Done} of {Due} in {Table}.{Column} anew; {Faults} do not open")]
    private static partial void LogResealed(ILogger log, string table, string column, int done, int due, int faults);
}
