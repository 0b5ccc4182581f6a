using System.Collections.Concurrent;
using System.Text.Json;
using System.Text.Json.Serialization;
using Appoxy.Cluster;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Droids;
using Appoxy.Routerd.Sealing;
using Npgsql;

namespace Appoxy.Routerd.Servers;

/// <summary>
/// The droid-servers, and the one way by which specs get to them. Postgres knows which there are; until it answers, and while it
/// is away, the last known ones hold: from settings and from a file, since the global nginx's configuration depends on them.
/// </summary>
internal sealed partial class DroidServers : IDisposable
{
    private const int LockTries = 200;
    private static readonly TimeSpan LockPause = TimeSpan.FromMilliseconds(100);

    private readonly RouterdSettings settings;
    private readonly NpgsqlDataSource db;
    private readonly SecretBox box;
    private readonly ILogger<DroidServers> log;
    private readonly NodeIdentity? identity;
    private readonly string file;
    private readonly ConcurrentDictionary<string, DroidServer> clients = new();
    private readonly ConcurrentDictionary<string, SemaphoreSlim> gates = new();
    private volatile IReadOnlyList<ServerSettings> known;
    private bool registered;

    public DroidServers(
        RouterdSettings settings, NpgsqlDataSource db, SecretBox box, ILogger<DroidServers> log, NodeIdentity? identity = null)
    {
        (this.settings, this.db, this.box, this.log, this.identity) = (settings, db, box, log, identity);
        file = Path.Combine(settings.Nginx.Root, "servers.json");
        known = Merge(ReadFile(), settings.Servers);
    }

    /// <summary>All droid-servers as last known, ordered by name.</summary>
    public IReadOnlyList<ServerSettings> Known => known;

    /// <summary>The droidd of a server.</summary>
    /// <exception cref="Problem">503: it is not known here.</exception>
    public DroidServer this[string name]
    {
        get
        {
            var address = known.FirstOrDefault(s => s.Name == name)?.Address
                ?? throw Problem.Unavailable($"Droid-server {name} is not known here.");
            var client = clients.GetOrAdd(name, n => new DroidServer(n, address, identity, log));
            if (client.Address == address)
                return client;
            clients.TryUpdate(name, new DroidServer(name, address, identity, log), client);
            return clients[name];
        }
    }

    /// <summary>Brings the servers of settings to Postgres, once, and learns which there are.</summary>
    public async Task RefreshAsync(CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        if (!registered)
        {
            foreach (var server in settings.Servers)
            {
                await connection.RunAsync("""
                    insert into servers (name, address, upstream) values (@Name, @Address, @Upstream)
                    on conflict (name) do update set address = excluded.address, upstream = excluded.upstream
                      where (servers.address, servers.upstream) is distinct from (excluded.address, excluded.upstream)
                    """, server, cancel);
            }
            registered = true;
        }
        var now = await connection.ListAsync<ServerSettings>("select name, address, upstream from servers order by name", null, cancel);
        // A proxy has no way to a socket of the control machine.
        if (settings.Cluster is { IsProxy: true })
            now = [.. now.Where(s => s.Upstream.StartsWith("https://", StringComparison.Ordinal))];
        if (Text(now) == Text(known) && File.Exists(file))
            return;
        known = now;
        Directory.CreateDirectory(settings.Nginx.Root);
        await File.WriteAllTextAsync(file + ".next", Text(now), cancel);
        File.Move(file + ".next", file, overwrite: true);
    }

    /// <summary>
    /// PUTs what is wanted of an app now, read under a lock so that no older spec overtakes a newer one, nor a removal. Null if
    /// nothing is deployed.
    /// </summary>
    /// <exception cref="Problem">The droid-server is away, or refuses the spec.</exception>
    public async Task<DroidStatus?> PutAsync(string uid, CancellationToken cancel)
    {
        await using var held = await HoldAsync(uid, cancel);
        for (var again = false; ; again = true)
        {
            if (await Spec.WantedAsync(held.Connection, uid, box, cancel) is not (var server, { } spec))
                return null;
            try
            {
                return await this[server].PutAsync(spec, cancel);
            }
            catch (Problem e) when (e.Status == 409 && !again)
            {
                // It holds a newer generation than Postgres, which was restored from a backup: what Postgres says is wanted.
                var generation = (await this[server].FindAsync(uid, cancel))?.Generation ?? 0;
                LogOvertaken(log, uid, server, generation, spec.Generation);
                await db.RunAsync("update apps set generation = greatest(generation, @generation) + 1 where uid = @uid",
                    new { uid, generation }, cancel);
            }
        }
    }

    /// <summary>PUTs what is wanted of an app to a server that it is on its way to, under the same lock.</summary>
    /// <param name="uid">The app.</param>
    /// <param name="server">The server.</param>
    /// <param name="change">What the server is to get in place of what is wanted; null for nothing.</param>
    /// <param name="cancel">Ends the wait.</param>
    public async Task<DroidStatus?> PutToAsync(string uid, string server, Func<DroidSpec, DroidSpec?> change, CancellationToken cancel)
    {
        await using var held = await HoldAsync(uid, cancel);
        return await Spec.WantedAsync(held.Connection, uid, box, cancel) is (_, { } spec) && change(spec) is { } changed
            ? await this[server].PutAsync(changed, cancel)
            : null;
    }

    /// <summary>Keeps specs of an app from getting to any server until it is disposed.</summary>
    public async Task<IAsyncDisposable> PauseAsync(string uid, CancellationToken cancel) => await HoldAsync(uid, cancel);

    /// <summary>Tries <see cref="PutAsync"/> after a change; where it fails, <see cref="Reconcile"/> does it later.</summary>
    /// <returns>Whether it went well.</returns>
    public async Task<bool> PushAsync(string uid, CancellationToken cancel)
    {
        try
        {
            await PutAsync(uid, cancel);
            return true;
        }
        catch (Problem e)
        {
            LogPushed(log, uid, e.Message);
            return false;
        }
    }

    public async Task DeleteAsync(string uid, string server, CancellationToken cancel)
    {
        await using (await HoldAsync(uid, cancel))
            await this[server].DeleteAsync(uid, null, drain: false, cancel);
        gates.TryRemove(uid, out _);
    }

    /// <summary>
    /// Lets one change at a time be told of a droid, of all routerds: the gate is for this one, so that few connections wait, and the
    /// lock in Postgres is for the others.
    /// </summary>
    /// <exception cref="Problem">503: another routerd does not come to an end.</exception>
    private async Task<Held> HoldAsync(string uid, CancellationToken cancel)
    {
        var gate = gates.GetOrAdd(uid, _ => new SemaphoreSlim(1, 1));
        await gate.WaitAsync(cancel);
        NpgsqlConnection? connection = null;
        try
        {
            connection = await db.OpenConnectionAsync(cancel);
            // The lock goes with the transaction; that of a session would stay until its connection is taken from the pool again.
            var transaction = await connection.BeginTransactionAsync(cancel);
            for (var tries = 0; !await connection.FirstAsync<bool>(
                     "select pg_try_advisory_xact_lock(hashtextextended('appoxy droid ' || @uid, 0))", new { uid }, cancel); tries++)
            {
                if (tries == LockTries)
                    throw Problem.Unavailable("Another routerd is still telling its droid-server of this app. Try again in a moment.");
                await Task.Delay(LockPause, cancel);
            }
            return new Held(gate, connection, transaction);
        }
        catch
        {
            if (connection is not null)
                await connection.DisposeAsync();
            gate.Release();
            throw;
        }
    }

    private IReadOnlyList<ServerSettings> ReadFile()
    {
        try
        {
            return JsonSerializer.Deserialize(File.ReadAllText(file), ServersJson.Default.ListServerSettings) ?? [];
        }
        catch (Exception e) when (e is IOException or JsonException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    private static List<ServerSettings> Merge(IEnumerable<ServerSettings> last, IEnumerable<ServerSettings> settings) =>
        [.. settings.Concat(last).DistinctBy(s => s.Name).OrderBy(s => s.Name, StringComparer.Ordinal)];

    private static string Text(IEnumerable<ServerSettings> servers) =>
        JsonSerializer.Serialize([.. servers], ServersJson.Default.ListServerSettings);

    public void Dispose()
    {
        foreach (var client in clients.Values)
            client.Dispose();
    }

    private sealed class Held(SemaphoreSlim gate, NpgsqlConnection connection, NpgsqlTransaction transaction) : IAsyncDisposable
    {
        public NpgsqlConnection Connection => connection;

        public async ValueTask DisposeAsync()
        {
            await transaction.DisposeAsync();
            await connection.DisposeAsync();
            gate.Release();
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Server} holds generation {Held} of {Uid}, Postgres {Generation}: going past it")]
    private static partial void LogOvertaken(ILogger log, string uid, string server, long held, long generation);

    [LoggerMessage(Level = LogLevel.Information, Message = "The change of {Uid} goes to its droid-server later: {Fault}")]
    private static partial void LogPushed(ILogger log, string uid, string fault);
}

[JsonSerializable(typeof(List<ServerSettings>))]
internal sealed partial class ServersJson : JsonSerializerContext;
