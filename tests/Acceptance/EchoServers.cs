using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net.Sockets;
using Npgsql;
using StackExchange.Redis;

namespace Appoxy.Tests;

/// <summary>
/// Two more droid-servers of an install, <c>ds8</c> and <c>ds9</c>: one small nginx that answers each request with the name of the
/// server it was sent to. Apps are placed on them straight in Postgres, as fast as a test likes, and have nothing to start.
/// </summary>
public sealed class EchoServers(Install install) : IAsyncLifetime, IAsyncDisposable
{
    public static readonly string[] Names = ["ds8", "ds9"];

    private static readonly ConcurrentDictionary<string, int> Uids = new();
    private static int uids;
    private readonly string folder = Path.Combine("/tmp", "appoxy-echo-" + Path.GetRandomFileName()[..6]);
    private Process? nginx;
    private ConnectionMultiplexer redis = null!;

    public Install Install => install;

    /// <summary>The install's Postgres, with room for many writers.</summary>
    public NpgsqlDataSource Database { get; private set; } = null!;

    public IDatabase Redis => redis.GetDatabase();

    public async Task InitializeAsync()
    {
        var url = new Uri(install.Installed("database_url"));
        var user = url.UserInfo.Split(':');
        Database = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder
        {
            Host = url.Host, Port = url.Port, Username = user[0], Password = user[1], Database = url.AbsolutePath[1..],
            ApplicationName = "tests", Timeout = 5, CommandTimeout = 60,
        }.ConnectionString);
        redis = await ConnectionMultiplexer.ConnectAsync(new ConfigurationOptions
        {
            EndPoints = { new UnixDomainSocketEndPoint($"{install.Prefix}/run/appoxy/redis.sock") },
            AbortOnConnectFail = false, AllowAdmin = true, AsyncTimeout = 20_000, SyncTimeout = 20_000, ReconnectRetryPolicy = new LinearRetry(100),
        });
        StartNginx();
        foreach (var name in Names)
        {
            await RunAsync($"insert into servers (name, address, upstream) values ('{name}', 'unix:{folder}/droidd.sock', 'unix:{folder}/{name}.sock') "
                + "on conflict (name) do update set address = excluded.address, upstream = excluded.upstream");
        }
        await RenderedAsync(wanted: true);
    }

    public async Task DisposeAsync()
    {
        await RemoveAppsAsync();
        await RunAsync($"delete from servers where name in ('{string.Join("', '", Names)}')");
        await RenderedAsync(wanted: false);
        await Database.DisposeAsync();
        await redis.DisposeAsync();
        if (nginx is not null)
        {
            // Not Kill(): its worker would live on.
            await install.RunAsync("kill", ["-TERM", $"{nginx.Id}"]);
            await nginx.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(10));
            nginx.Dispose();
        }
        Directory.Delete(folder, recursive: true);
    }

    async ValueTask IAsyncDisposable.DisposeAsync() => await DisposeAsync();

    /// <summary>Makes apps, each with one hostname <c>NAME.test</c>, on one server; all of them in one transaction.</summary>
    public async Task CreateAsync(string server, params IReadOnlyCollection<string> names)
    {
        await using var batch = Database.CreateBatch();
        foreach (var sql in new[]
        {
            "insert into apps (uid, name) select uid, name from unnest($1, $2) as n (uid, name) where $3 <> ''",
            "insert into placements (app_uid, server) select uid, $3 from unnest($1, $2) as n (uid, name)",
            "insert into domains (hostname, app_uid) select name || '.test', uid from unnest($1, $2) as n (uid, name) where $3 <> '' order by name",
        })
        {
            var command = batch.CreateBatchCommand();
            command.CommandText = sql;
            foreach (var value in new object[] { names.Select(Uid).ToArray(), names.ToArray(), server })
                command.Parameters.Add(new NpgsqlParameter { Value = value });
            batch.BatchCommands.Add(command);
        }
        await batch.ExecuteNonQueryAsync();
    }

    /// <summary>An app's uid, the same for the same name.</summary>
    public static string Uid(string name)
    {
        const string digits = "abcdefghijklmnopqrstuvwxyz234567";
        var number = Uids.GetOrAdd(name, _ => Interlocked.Increment(ref uids));
        return "e" + string.Concat(Enumerable.Range(0, 6).Select(i => digits[number >> (5 * i) & 31]));
    }

    public async Task<int> RunAsync(string sql)
    {
        await using var command = Database.CreateCommand(sql);
        return await command.ExecuteNonQueryAsync();
    }

    public async Task<T> AskAsync<T>(string sql)
    {
        await using var command = Database.CreateCommand(sql);
        return (T)(await command.ExecuteScalarAsync())!;
    }

    /// <summary>Removes all apps that <see cref="CreateAsync"/> made, some at a time.</summary>
    public async Task RemoveAppsAsync()
    {
        while (await RunAsync("""
            delete from apps where uid in (
              select app_uid from placements where server in ('ds8', 'ds9') order by app_uid limit 2000)
            """) > 0)
        {
        }
    }

    /// <summary>Waits until Redis is at the version that Postgres is at now, or at a newer one.</summary>
    public async Task PublishedAsync(TimeSpan limit)
    {
        var version = await AskAsync<long>("select version from route_version");
        await Install.EventuallyAsync(async () => await VersionAsync() >= version, limit);
    }

    /// <summary>The version that Redis is at; -1 while it has none.</summary>
    public async Task<long> VersionAsync() => (long?)await Redis.StringGetAsync("appoxy:routes:version") ?? -1;

    /// <summary>Compares Redis with Postgres, field by field; what differs, in words, or nothing.</summary>
    public async Task<List<string>> DifferencesAsync()
    {
        var wanted = await PairsAsync("select hostname, target from routes");
        var differences = Compare("route", wanted, await HashAsync("appoxy:routes"));
        differences.AddRange(Compare("server", await PairsAsync("select name, upstream from servers"), await HashAsync("appoxy:servers")));
        // Of what no route names any more, some may be left for a while.
        var options = await HashAsync("appoxy:options");
        differences.AddRange((await PairsAsync("select distinct routing_id(routing), routing::text from apps where routing <> '{}'"))
            .Where(o => options.GetValueOrDefault(o.Key) != o.Value)
            .Select(o => $"options {o.Key}: wanted {o.Value}, Redis has '{options.GetValueOrDefault(o.Key)}'"));
        var version = await AskAsync<long>("select version from route_version");
        var published = await VersionAsync();
        if (published != version)
            differences.Add($"Postgres is at version {version}, Redis at {published}");
        // The newest changes: without a gap, and up to the version.
        var changes = (await Redis.ListRangeAsync("appoxy:routes:changes"))
            .Select(c => long.Parse(c.ToString().Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture)).ToArray();
        if (changes.Length > 0 && (changes[^1] != version || changes.Zip(changes.Skip(1)).Any(c => c.Second != c.First + 1)))
            differences.Add($"the list of changes goes from {changes[0]} to {changes[^1]} in {changes.Length} steps, and the version is {version}");
        return differences;
    }

    private async Task<Dictionary<string, string>> HashAsync(string key) =>
        (await Redis.HashGetAllAsync(key)).ToDictionary(e => e.Name.ToString(), e => e.Value.ToString());

    private async Task<Dictionary<string, string>> PairsAsync(string sql)
    {
        var pairs = new Dictionary<string, string>();
        await using var command = Database.CreateCommand(sql);
        await using var reader = await command.ExecuteReaderAsync();
        while (await reader.ReadAsync())
            pairs.Add(reader.GetString(0), reader.GetString(1));
        return pairs;
    }

    private static List<string> Compare(string what, Dictionary<string, string> wanted, Dictionary<string, string> held) =>
        [.. wanted.Keys.Union(held.Keys).Where(k => wanted.GetValueOrDefault(k) != held.GetValueOrDefault(k))
            .Select(k => $"{what} {k}: wanted '{wanted.GetValueOrDefault(k)}', Redis has '{held.GetValueOrDefault(k)}'")];

    private void StartNginx()
    {
        Directory.CreateDirectory(folder);
        File.SetUnixFileMode(folder, (UnixFileMode)0b111_101_101);
        var temporary = string.Join(' ', new[] { "client_body", "proxy", "fastcgi", "uwsgi", "scgi" }.Select(p => $"{p}_temp_path {folder}/{p};"));
        var servers = string.Join('\n', Names.Select(n => $$"""
            server { listen unix:{{folder}}/{{n}}.sock backlog=4096; location / { return 200 "{{n}}\n"; } }
            """));
        File.WriteAllText($"{folder}/nginx.conf", $$"""
            user www-data; pid {{folder}}/pid; error_log {{folder}}/error.log; worker_processes 1;
            events { worker_connections 4096; }
            http { access_log off; keepalive_requests 10000000; {{temporary}}
            {{servers}}
            }
            """);
        nginx = Process.Start("/usr/sbin/nginx", ["-p", folder, "-c", $"{folder}/nginx.conf", "-e", $"{folder}/error.log", "-g", "daemon off;"]);
    }

    /// <summary>routerd looks at the servers now and then; nginx must have the new configuration, and the workers of the old one gone.</summary>
    private async Task RenderedAsync(bool wanted)
    {
        var config = $"{install.Prefix}/var/lib/appoxy/nginx/global/current/nginx.conf";
        using var control = LocalHttp.For($"unix:{install.Prefix}/run/appoxy/global-control.sock", TimeSpan.FromSeconds(5));
        await Install.EventuallyAsync(async () =>
        {
            var text = await File.ReadAllTextAsync(config);
            try
            {
                var version = await control.GetStringAsync("version");
                return Names.All(n => text.Contains($"upstream {n}.keep", StringComparison.Ordinal)) == wanted
                    && text.Contains($"Version {version.Trim()}.", StringComparison.Ordinal) && Workers().Length > 0;
            }
            catch (HttpRequestException)
            {
                return false;
            }
        }, TimeSpan.FromSeconds(30));
        await Install.EventuallyAsync(() => Task.FromResult(Workers(exiting: true).Length == 0), TimeSpan.FromSeconds(30));
    }

    /// <summary>The process ids of the global nginx's workers.</summary>
    public int[] Workers(bool exiting = false)
    {
        var master = install.ServicePid("global-nginx");
        return [.. File.ReadAllText($"/proc/{master}/task/{master}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(int.Parse)
            .Where(pid => Title(pid) is var title && title.Contains("worker process", StringComparison.Ordinal)
                && title.Contains("shutting down", StringComparison.Ordinal) == exiting)];

        static string Title(int pid)
        {
            try
            {
                return File.ReadAllText($"/proc/{pid}/cmdline");
            }
            catch (IOException)
            {
                return "";
            }
        }
    }
}
