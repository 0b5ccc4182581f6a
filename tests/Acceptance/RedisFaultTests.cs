using System.Diagnostics;
using System.Net;
using Xunit.Abstractions;

namespace Appoxy.Tests.Acceptance;

/// <summary>
/// Faults of the stores while known hosts are visited. Each visit is compared with those of the seconds just before, so that what
/// else the machine does counts for both.
/// </summary>
[Collection(Alone.Name)]
public sealed class RedisFaultTests(Install install, EchoServers servers, ITestOutputHelper output) : IClassFixture<EchoServers>, IAsyncLifetime
{
    private const int Hosts = 100;
    private const double Allowed = 5;
    private static readonly TimeSpan Quiet = TimeSpan.FromSeconds(2.5);
    private static readonly string[] Known = [.. Enumerable.Range(0, Hosts).Select(n => $"known-{n}.test")];

    public async Task InitializeAsync()
    {
        if (await servers.AskAsync<long>("select count(*) from apps where name = 'known-0'") > 0)
            return;
        await servers.CreateAsync("ds8", [.. Known.Select(h => h[..^".test".Length])]);
        await servers.PublishedAsync(TimeSpan.FromSeconds(20));
        foreach (var host in Known)
            await Install.EventuallyAsync(async () => (await install.GetAsync(host)).Status == HttpStatusCode.OK, TimeSpan.FromSeconds(10));
    }

    public Task DisposeAsync() => Task.CompletedTask;

    [Fact]
    public Task Killed_redis_costs_known_hosts_nothing() => UnderLoadAsync(async () =>
    {
        for (var round = 0; round < 3; round++)
        {
            await SignalAsync("redis", "KILL");
            await Task.Delay(TimeSpan.FromSeconds(2));
        }
    });

    [Fact]
    public Task Emptied_redis_costs_known_hosts_nothing() => UnderLoadAsync(async () =>
    {
        for (var round = 0; round < 10; round++)
        {
            await servers.Redis.ExecuteAsync("FLUSHALL");
            await Task.Delay(Random.Shared.Next(500));
        }
    });

    [Fact]
    public Task Replaced_redis_costs_known_hosts_nothing() => UnderLoadAsync(async () =>
    {
        await install.ServiceAsync("redis", "down");
        foreach (var file in Directory.EnumerateFiles($"{install.Prefix}/var/lib/appoxy/redis"))
            File.Delete(file);
        await Task.Delay(TimeSpan.FromSeconds(3));
        await install.ServiceAsync("redis", "up");
        await Task.Delay(TimeSpan.FromSeconds(2));
    });

    [Fact]
    public Task Readonly_redis_costs_known_hosts_nothing() => UnderLoadAsync(async () =>
    {
        await servers.Redis.ExecuteAsync("CONFIG", "SET", "min-replicas-to-write", "1");
        try
        {
            await servers.CreateAsync("ds8", "while-read-only");
            await Task.Delay(TimeSpan.FromSeconds(4));
        }
        finally
        {
            await servers.Redis.ExecuteAsync("CONFIG", "SET", "min-replicas-to-write", "0");
        }
        await ServesAsync("while-read-only");
        // As a replica of a Redis that is away it refuses to write, too; and what it holds may be old.
        await servers.Redis.ExecuteAsync("REPLICAOF", "127.0.0.1", "1");
        try
        {
            await Task.Delay(TimeSpan.FromSeconds(4));
        }
        finally
        {
            await servers.Redis.ExecuteAsync("REPLICAOF", "NO", "ONE");
        }
    });

    [Fact]
    public Task Redis_that_answers_after_two_seconds_or_not_at_all_for_a_while_costs_known_hosts_nothing() => UnderLoadAsync(async () =>
    {
        await servers.Redis.ExecuteAsync("CLIENT", "PAUSE", "2000", "ALL");
        await Task.Delay(TimeSpan.FromSeconds(3));
        // It stands still just when every route is to be read again.
        await servers.Redis.ExecuteAsync("FLUSHALL");
        await SignalAsync("redis", "STOP");
        await Task.Delay(TimeSpan.FromSeconds(4));
        await SignalAsync("redis", "CONT");
        await Task.Delay(TimeSpan.FromSeconds(1));
        await servers.Redis.PublishAsync(StackExchange.Redis.RedisChannel.Literal("appoxy:routes"), "1 *");
        await SignalAsync("redis", "STOP");
        await Task.Delay(TimeSpan.FromSeconds(2));
        await SignalAsync("redis", "CONT");
    });

    [Fact]
    public Task Postgres_that_is_gone_for_a_while_costs_known_hosts_nothing() => UnderLoadAsync(async () =>
    {
        await install.ServiceAsync("postgres", "down");
        await Task.Delay(TimeSpan.FromSeconds(Seconds("APPOXY_TEST_POSTGRES_GONE", 6)));
        await install.ServiceAsync("postgres", "up");
    });

    [Fact]
    public async Task Nginx_that_starts_while_the_stores_and_routerd_are_gone_serves_from_the_snapshot()
    {
        await servers.CreateAsync("ds8", "never-visited");
        var version = await servers.AskAsync<long>("select version from route_version");
        await Install.EventuallyAsync(async () => long.Parse(
            (await File.ReadAllLinesAsync($"{install.Prefix}/var/lib/appoxy/routes.snapshot"))[0].Split(' ')[1]) >= version, TimeSpan.FromSeconds(10));
        string[] services = ["routerd", "redis", "postgres"];
        try
        {
            foreach (var service in services)
                await install.ServiceAsync(service, "down");
            await install.ServiceAsync("global-nginx", "down");
            var begun = Stopwatch.GetTimestamp();
            await install.ServiceAsync("global-nginx", "up");
            await Install.EventuallyAsync(async () => await AnswersAsync("never-visited.test"), TimeSpan.FromSeconds(10));
            output.WriteLine($"serves {Stopwatch.GetElapsedTime(begun).TotalSeconds:0.0} s after its start was asked for");
            foreach (var host in Known)
                Assert.Equal((HttpStatusCode.OK, "ds8\n"), (await install.GetAsync(host)) is var (status, body, _) ? (status, body) : default);
            Assert.Equal(HttpStatusCode.ServiceUnavailable, (await install.GetAsync("unheard-of.test")).Status);
        }
        finally
        {
            foreach (var service in services.Reverse())
                await install.ServiceAsync(service, "up");
        }
        await HealsAsync();
    }

    [Fact]
    public async Task Flood_of_unknown_hosts_neither_slows_nor_forgets_known_ones()
    {
        var time = TimeSpan.FromSeconds(Seconds("APPOXY_TEST_FLOOD", 6));
        using var visits = new Visits(install.HttpPort, Known, "ds8");
        await visits.DuringAsync(TimeSpan.FromSeconds(2));
        var before = await visits.DuringAsync(Quiet);
        // As many as leave both cores something: what a flood beyond that costs is the machine's, not the lookup's.
        using var stop = new CancellationTokenSource(time);
        var flood = Enumerable.Range(0, 4).Select(n => Task.Factory.StartNew(() => Flood(n, stop.Token), TaskCreationOptions.LongRunning)).ToArray();
        var during = await visits.DuringAsync(time);
        var sent = (await Task.WhenAll(flood)).Sum();
        output.WriteLine($"before: {before}; during {sent / time.TotalSeconds:0} unknown hosts/s: {during}");
        Assert.Empty(during.Failures);
        Assert.True(sent > 100 * time.TotalSeconds, $"a flood of {sent}");
        // A millisecond is what a turn of the scheduler may take, when visitors, flood and nginx share two cores.
        Assert.True(during.P99 <= (2 * before.P99) + 1, $"p99 was {before.P99:0.00} ms, and {during.P99:0.00} ms in the flood");
        await install.ServiceAsync("redis", "down");
        try
        {
            foreach (var host in Known)
                Assert.Equal(HttpStatusCode.OK, (await install.GetAsync(host)).Status);
        }
        finally
        {
            await install.ServiceAsync("redis", "up");
        }
        await HealsAsync();
    }

    private int Flood(int flooder, CancellationToken stop)
    {
        var random = new Random(flooder);
        var sent = 0;
        using var line = new HttpLine(install.HttpPort);
        for (; !stop.IsCancellationRequested && sent < 9000; sent++)
        {
            var (status, _) = line.Ask($"{random.NextInt64():x}.{random.Next(1000)}.flood.test");
            Assert.Equal(404, status);
            Thread.Sleep(4);
        }
        return sent;
    }

    /// <summary>Visits known hosts before a fault, during it and for a while after; then all must be as before by itself.</summary>
    private async Task UnderLoadAsync(Func<Task> fault)
    {
        using var visits = new Visits(install.HttpPort, Known, "ds8");
        await visits.DuringAsync(TimeSpan.FromSeconds(2));
        var before = await visits.DuringAsync(Quiet);
        var begun = Stopwatch.GetTimestamp();
        await fault();
        var during = visits.Since(begun);
        begun = Stopwatch.GetTimestamp();
        await HealsAsync();
        output.WriteLine($"healed after {Stopwatch.GetElapsedTime(begun).TotalSeconds:0.0} s");
        var after = visits.Since(begun);
        output.WriteLine($"before: {before}\nduring: {during}\nafter:  {after}");
        Assert.True(during.Failures.Length + after.Failures.Length == 0, string.Join('\n', during.Failures.Concat(after.Failures).Take(5)));
        Assert.True(during.Count > 100, "hardly a visit");
        Assert.True(during.P99 <= before.P99 + Allowed, $"p99 was {before.P99:0.00} ms before and {during.P99:0.00} ms in the fault");
    }

    /// <summary>An app that is made now is served within seconds, and Redis has what Postgres has.</summary>
    private async Task HealsAsync()
    {
        var name = "after-" + Guid.NewGuid().ToString("N")[..10];
        await Install.EventuallyAsync(async () =>
        {
            try
            {
                await servers.CreateAsync("ds8", name);
                return true;
            }
            catch (Npgsql.NpgsqlException)
            {
                return false;
            }
        }, TimeSpan.FromSeconds(30));
        await ServesAsync(name);
        await Install.EventuallyAsync(async () => (await servers.DifferencesAsync()).Count == 0, TimeSpan.FromSeconds(20));
    }

    private Task ServesAsync(string app) => Install.EventuallyAsync(() => AnswersAsync($"{app}.test"), TimeSpan.FromSeconds(15));

    private async Task<bool> AnswersAsync(string host)
    {
        try
        {
            return await install.GetAsync(host) is (HttpStatusCode.OK, "ds8\n", _);
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }

    private Task SignalAsync(string service, string signal) => install.RunAsync("kill", ["-" + signal, $"{install.ServicePid(service)}"]);

    private static int Seconds(string variable, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(variable), out var seconds) ? seconds : otherwise;
}
