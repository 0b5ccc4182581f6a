using System.Diagnostics;
using System.Globalization;
using System.Net;
using Npgsql;
using StackExchange.Redis;
using Xunit.Abstractions;

namespace Appoxy.Tests.Acceptance;

[Collection(Alone.Name)]
public sealed class PublisherTests(Install install, EchoServers servers, ITestOutputHelper output) : IClassFixture<EchoServers>
{
    private const int Seed = 2026;

    /// <summary>A hundred thousand take a minute longer, and are for a run of this test alone.</summary>
    private static readonly int Apps = int.Parse(Environment.GetEnvironmentVariable("APPOXY_TEST_APPS") ?? "4000", CultureInfo.InvariantCulture);

    [Fact]
    public async Task Redis_ends_equal_to_postgres_after_many_apps_came_moved_and_went_while_publishers_were_killed_and_redis_emptied()
    {
        await using var routerds = new Routerds(servers);
        await routerds.StartAsync();
        output.WriteLine($"seed {Seed}");
        var begun = Stopwatch.GetTimestamp();
        using var done = new CancellationTokenSource();
        var writers = Enumerable.Range(0, 4).Select(n => Task.Run(() => WriteAsync(n, Apps / 4))).ToArray();
        var kills = Task.Run(() => KillAsync(routerds, done.Token));
        try
        {
            var wrote = await Task.WhenAll(writers);
            output.WriteLine($"{Apps} apps made, {wrote.Sum(w => w.Moved)} moved, {wrote.Sum(w => w.Gone)} removed, written in {Stopwatch.GetElapsedTime(begun).TotalSeconds:0.0} s");
        }
        finally
        {
            await done.CancelAsync();
            output.WriteLine($"{await kills} kills");
        }
        await servers.PublishedAsync(TimeSpan.FromSeconds(60));
        await ServersPublishedAsync();
        output.WriteLine($"published after {Stopwatch.GetElapsedTime(begun).TotalSeconds:0.0} s, with {await servers.Redis.HashLengthAsync("appoxy:routes")} routes");
        Assert.Empty(await servers.DifferencesAsync());

        // Once more, by a leader that stands still in the midst of a table: Redis was emptied, and what it builds is there in part.
        var leader = await routerds.LeaderAsync(TimeSpan.FromSeconds(30));
        await servers.Redis.ExecuteAsync("FLUSHALL");
        var stopped = await StopWhileItBuildsAsync(routerds, leader);
        output.WriteLine($"{leader} stopped in the midst of a table: {stopped}");
        var took = Stopwatch.GetTimestamp();
        var next = await routerds.LeaderAsync(TimeSpan.FromSeconds(40), otherThan: leader);
        output.WriteLine($"{next} took over after {Stopwatch.GetElapsedTime(took).TotalSeconds:0.0} s");
        await servers.PublishedAsync(TimeSpan.FromSeconds(30));
        await routerds.SignalAsync(leader, "CONT");
        await Task.Delay(TimeSpan.FromSeconds(2));
        await ServersPublishedAsync();
        Assert.Empty(await servers.DifferencesAsync());
    }

    [Fact]
    public async Task Leader_that_was_stopped_and_wakes_later_writes_nothing_back_and_stands_by()
    {
        const int hosts = 20, generations = 4000;
        await using var routerds = new Routerds(servers);
        await routerds.StartAsync();
        // A host goes from app to app, whose uids grow; so does what Redis has of it.
        await servers.RunAsync($"insert into apps (uid, name) select uid, uid from unnest(array['{string.Join("','", Enumerable.Range(0, generations).Select(Uid))}']) uid");
        await servers.RunAsync("insert into placements (app_uid, server) select uid, 'ds8' from apps where uid like 'g______' and name = uid");
        string[] names = [.. Enumerable.Range(0, hosts).Select(n => $"gen-{n}.test")];
        await servers.RunAsync($"insert into domains (hostname, app_uid) select name, '{Uid(0)}' from unnest(array['{string.Join("','", names)}']) name");
        await servers.PublishedAsync(TimeSpan.FromSeconds(20));
        using var done = new CancellationTokenSource();
        var writer = Task.Run(() => PassOnAsync(names, generations, done.Token));
        var watcher = Task.Run(() => WatchAsync(names, done.Token));
        for (var round = 0; round < 2; round++)
        {
            var leader = await routerds.LeaderAsync(TimeSpan.FromSeconds(20));
            await Task.Delay(Random.Shared.Next(200));
            await routerds.SignalAsync(leader, "STOP");
            var took = Stopwatch.GetTimestamp();
            var next = await routerds.LeaderAsync(TimeSpan.FromSeconds(20), otherThan: leader);
            output.WriteLine($"{next} took over from {leader} after {Stopwatch.GetElapsedTime(took).TotalSeconds:0.0} s");
            await servers.PublishedAsync(TimeSpan.FromSeconds(5));
            await Task.Delay(TimeSpan.FromSeconds(1));
            await routerds.SignalAsync(leader, "CONT");
            await Task.Delay(TimeSpan.FromSeconds(2));
            Assert.Equal(next, await routerds.LeaderAsync(TimeSpan.FromSeconds(5)));
            await Install.EventuallyAsync(async () => await routerds.MetricAsync(leader, "appoxy_route_publisher_leads") == 0, TimeSpan.FromSeconds(10));
            Assert.Equal(1, await routerds.MetricAsync(next, "appoxy_route_publisher_leads"));
        }
        await done.CancelAsync();
        var (passed, looks) = (await writer, await watcher);
        output.WriteLine($"passed on {passed} times, looked at {looks.Count} times");
        Assert.True(passed > 500 && looks.Count > 500, $"{passed} changes, {looks.Count} looks");
        Assert.Empty(looks.Backwards);
        await servers.PublishedAsync(TimeSpan.FromSeconds(10));
        Assert.Empty(await servers.DifferencesAsync());
        await servers.RunAsync("delete from domains where hostname like 'gen-%.test'");
    }

    [Fact]
    public async Task Writer_that_is_behind_or_whose_table_was_lost_in_part_is_refused_by_the_scripts()
    {
        var (apply, swap) = (await ScriptAsync("apply.lua"), await ScriptAsync("swap.lua"));
        RedisKey[] keys = ["try:routes", "try:version", "try:changes", "try:options"];
        RedisKey[] withNew = [.. keys, "try:new", "try:new-options"];
        await servers.Redis.KeyDeleteAsync(withNew);
        await BuildAsync("a.test", "b.test");
        Assert.Equal(0, (int)await servers.Redis.ScriptEvaluateAsync(swap, withNew, ["try:channel", "5", 10, 2, 0]));
        await BuildAsync("b.test");
        Assert.Equal(0, (int)await servers.Redis.ScriptEvaluateAsync(swap, withNew, ["try:channel", "", 10, 2, 0]));
        await BuildAsync("a.test", "b.test");
        Assert.Equal(0, (int)await servers.Redis.ScriptEvaluateAsync(swap, withNew, ["try:channel", "", 10, 2, 1]));
        Assert.False(await servers.Redis.KeyExistsAsync(withNew) > 0, "a refused table stays");
        await BuildAsync("a.test", "b.test");
        Assert.Equal(1, (int)await servers.Redis.ScriptEvaluateAsync(swap, withNew, ["try:channel", "", 10, 2, 0]));
        Assert.Equal(1, (int)await servers.Redis.ScriptEvaluateAsync(apply, keys,
            ["try:channel", "10", 1, "id", "{}", 11, "a.test", "new", 12, "b.test", ""]));
        Assert.Equal(0, (int)await servers.Redis.ScriptEvaluateAsync(apply, keys, ["try:channel", "10", 0, 11, "a.test", "old"]));
        Assert.Equal("{}", await servers.Redis.HashGetAsync("try:options", "id"));
        Assert.Equal("12", await servers.Redis.StringGetAsync("try:version"));
        Assert.Equal("new", await servers.Redis.HashGetAsync("try:routes", "a.test"));
        Assert.False(await servers.Redis.HashExistsAsync("try:routes", "b.test"));
        await servers.Redis.KeyDeleteAsync(keys);

        Task BuildAsync(params string[] hosts) => servers.Redis.HashSetAsync("try:new", [.. hosts.Select(h => new HashEntry(h, "old"))]);

        Task<string> ScriptAsync(string name) => File.ReadAllTextAsync(Path.Combine(install.Repository, "routerd/Routes", name));
    }

    [Fact]
    public async Task Routes_that_were_broken_by_hand_in_redis_are_repaired_and_the_metrics_say_so()
    {
        await servers.CreateAsync("ds8", "drift-a", "drift-b");
        await using var routerds = new Routerds(servers, compareRoutes: "1s");
        await routerds.StartAsync();
        await servers.PublishedAsync(TimeSpan.FromSeconds(20));
        var leader = await routerds.LeaderAsync(TimeSpan.FromSeconds(20));
        var rebuilds = await routerds.MetricAsync(leader, "appoxy_route_rebuilds_total");
        Assert.Equal(0, await routerds.MetricAsync(leader, "appoxy_route_drift_repaired_total"));

        await servers.Redis.HashSetAsync("appoxy:routes", "drift-a.test", "zzzzzzz ds9 -");
        await servers.Redis.HashDeleteAsync("appoxy:routes", "drift-b.test");
        await servers.Redis.HashSetAsync("appoxy:routes", "drift-c.test", "zzzzzzz ds9 -");
        // The next comparison is twenty times as far away as the first one took, which had to warm up.
        await Install.EventuallyAsync(async () => await routerds.MetricAsync(leader, "appoxy_route_drift_repaired_total") == 3, TimeSpan.FromSeconds(60));
        await servers.PublishedAsync(TimeSpan.FromSeconds(10));
        Assert.Empty(await servers.DifferencesAsync());
        await Install.EventuallyAsync(async () => await routerds.MetricAsync(leader, "appoxy_route_drift") == 0, TimeSpan.FromSeconds(20));
        Assert.Equal(rebuilds, await routerds.MetricAsync(leader, "appoxy_route_rebuilds_total"));
        Assert.Equal(await servers.VersionAsync(), await routerds.MetricAsync(leader, "appoxy_routes_published_version"));
        Assert.Equal(0, await routerds.MetricAsync(leader, "appoxy_routes_behind"));
        // The nginx has it right as well.
        Assert.Equal(("ds8\n", "ds8\n", HttpStatusCode.NotFound),
            ((await install.GetAsync("drift-a.test")).Body, (await install.GetAsync("drift-b.test")).Body, (await install.GetAsync("drift-c.test")).Status));

        // More than are repaired one by one.
        await servers.Redis.HashSetAsync("appoxy:routes", [.. Enumerable.Range(0, 1500).Select(n => new HashEntry($"drift-{n}.test", "zzzzzzz ds9 -"))]);
        await Install.EventuallyAsync(async () => await routerds.MetricAsync(leader, "appoxy_route_rebuilds_total") > rebuilds, TimeSpan.FromSeconds(20));
        Assert.Empty(await servers.DifferencesAsync());
    }

    [Fact]
    public async Task Metrics_are_for_admins_alone()
    {
        using var console = install.Site("console.localhost");
        Assert.Equal(HttpStatusCode.Unauthorized, (await console.GetAsync("metrics")).StatusCode);
        console.DefaultRequestHeaders.Authorization = new("Bearer", install.Token);
        Assert.Contains("appoxy_route_publisher_leads", await console.GetStringAsync("metrics"), StringComparison.Ordinal);
    }

    private async Task<(int Moved, int Gone)> WriteAsync(int writer, int apps)
    {
        var random = new Random(Seed + writer);
        var live = new List<string>();
        var (made, moved, gone) = (0, 0, 0);
        await using var connection = await servers.Database.OpenConnectionAsync();
        while (made < apps)
        {
            var server = EchoServers.Names[random.Next(2)];
            switch (random.Next(6))
            {
                case 0 or 1 or 2:
                    string[] fresh = [.. Enumerable.Range(made, Math.Min(random.Next(50, 250), apps - made)).Select(n => $"w{writer}-{n}")];
                    await servers.CreateAsync(server, fresh);
                    live.AddRange(fresh);
                    made += fresh.Length;
                    break;
                case 3:
                    moved += await RunAsync("update placements set server = $2 where app_uid = any($1)", Some(), server);
                    break;
                case 4:
                    // Options are published apart, under a name that the route has.
                    var say = $$"""{"maintenance": {{(random.Next(2) == 0 ? "true" : "false")}}, "maxBody": "{{random.Next(1, 50)}}m"}""";
                    await RunAsync("update apps set routing = $2::jsonb where uid = any($1)", Some(), say);
                    break;
                default:
                    var some = Some();
                    gone += await RunAsync("delete from apps where uid = any($1) and $2 <> ''", some, server);
                    live.RemoveAll(some.ToHashSet().Contains);
                    break;
            }
        }
        return (moved, gone);

        List<string> Some() => live.Count == 0 ? [] : [.. Enumerable.Range(0, random.Next(250)).Select(_ => live[random.Next(live.Count)])];

        async Task<int> RunAsync(string sql, List<string> names, string server)
        {
            await using var command = new NpgsqlCommand(sql, connection) { CommandTimeout = 60 };
            command.Parameters.Add(new NpgsqlParameter { Value = names.Select(EchoServers.Uid).ToArray() });
            command.Parameters.Add(new NpgsqlParameter { Value = server });
            return await command.ExecuteNonQueryAsync();
        }
    }

    /// <summary>Kills who leads every few seconds, and empties Redis now and then.</summary>
    private async Task<int> KillAsync(Routerds routerds, CancellationToken done)
    {
        var random = new Random(Seed);
        var kills = 0;
        while (true)
        {
            await Task.Delay(random.Next(1500, 4000), done).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (done.IsCancellationRequested)
                return kills;
            if (kills % 4 == 3)
                await servers.Redis.ExecuteAsync("FLUSHALL");
            await routerds.SignalAsync(await routerds.LeaderAsync(TimeSpan.FromSeconds(30)), "KILL");
            kills++;
        }
    }

    private async Task<bool> StopWhileItBuildsAsync(Routerds routerds, string leader)
    {
        var endpoint = servers.Redis.Multiplexer.GetServer(servers.Redis.Multiplexer.GetEndPoints()[0]);
        for (var limit = Stopwatch.StartNew(); limit.Elapsed < TimeSpan.FromSeconds(5);)
        {
            if (!endpoint.Keys(pattern: "appoxy:routes:new:*").Any())
                continue;
            await routerds.SignalAsync(leader, "STOP");
            return !await servers.Redis.KeyExistsAsync("appoxy:routes:version");
        }
        await routerds.SignalAsync(leader, "STOP");
        return false;
    }

    /// <summary>The list of servers is published with a table, and else every ten seconds.</summary>
    private Task ServersPublishedAsync() => Install.EventuallyAsync(
        async () => EchoServers.Names.All((await servers.Redis.HashKeysAsync("appoxy:servers")).Select(k => k.ToString()).Contains), TimeSpan.FromSeconds(20));

    private static string Uid(int generation) =>
        "g" + string.Concat(Enumerable.Range(0, 6).Reverse().Select(i => (char)('a' + (generation / (int)Math.Pow(26, i) % 26))));

    private async Task<int> PassOnAsync(string[] names, int generations, CancellationToken done)
    {
        await using var connection = await servers.Database.OpenConnectionAsync(CancellationToken.None);
        var changes = 0;
        for (; !done.IsCancellationRequested && changes / names.Length < generations; changes++)
        {
            await using var command = new NpgsqlCommand("update domains set app_uid = $1 where hostname = $2", connection);
            command.Parameters.Add(new NpgsqlParameter { Value = Uid(changes / names.Length) });
            command.Parameters.Add(new NpgsqlParameter { Value = names[changes % names.Length] });
            await command.ExecuteNonQueryAsync(CancellationToken.None);
            await Task.Delay(2, CancellationToken.None);
        }
        return changes;
    }

    /// <summary>Looks at Redis again and again: neither the version nor any host's route may go back.</summary>
    private async Task<(int Count, List<string> Backwards)> WatchAsync(string[] names, CancellationToken done)
    {
        var last = names.ToDictionary(n => n, _ => "");
        var (version, count) = (0L, 0);
        var backwards = new List<string>();
        for (; !done.IsCancellationRequested; count++)
        {
            var look = servers.Redis.CreateTransaction();
            var at = look.StringGetAsync("appoxy:routes:version");
            var values = look.HashGetAsync("appoxy:routes", [.. names.Select(n => (RedisValue)n)]);
            await look.ExecuteAsync();
            if ((long)await at < version)
                backwards.Add($"version {await at} after {version}");
            version = (long)await at;
            foreach (var (name, value) in names.Zip(await values))
            {
                if (string.CompareOrdinal(value, last[name]) < 0)
                    backwards.Add($"{name}: {value} after {last[name]}, version {version}");
                last[name] = value!;
            }
            await Task.Delay(1, CancellationToken.None);
        }
        return (count, backwards);
    }
}
