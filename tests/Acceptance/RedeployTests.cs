using System.Diagnostics;
using System.Globalization;
using Xunit.Abstractions;

namespace Appoxy.Tests.Acceptance;

/// <summary>Visitors notice nothing of deployments but the new version.</summary>
/// <remarks>APPOXY_TEST_REDEPLOYS says how many; a new one under 200 requests/s takes a few seconds.</remarks>
[Collection(Alone.Name)]
public sealed class RedeployTests(Install install, ITestOutputHelper output)
{
    private const string Host = "redeployed.localhost";
    private const int Visitors = 4, PerSecond = 200;
    private readonly List<(long Began, long Ended, int Version, string? Fault)> answers = [];

    [Fact]
    public async Task Redeploys_under_load_fail_no_request_never_go_back_and_keep_visitors_from_a_version_that_is_not_healthy()
    {
        var redeploys = int.Parse(Environment.GetEnvironmentVariable("APPOXY_TEST_REDEPLOYS") ?? "2", CultureInfo.InvariantCulture);
        var repository = await install.RepositoryOfAsync("folder", "redeployed");
        await install.MustAsync("apps", "create", "redeployed");
        await install.MustAsync("settings", "redeployed", "health=/", "start-timeout=5s");
        await DeployAsync(0);
        using var stop = new CancellationTokenSource();
        var start = Stopwatch.StartNew();
        var visitors = Enumerable.Range(0, Visitors).Select(_ => Task.Factory.StartNew(() => Visit(stop.Token), TaskCreationOptions.LongRunning)).ToArray();

        for (var version = 2; version <= redeploys + 1; version++)
        {
            await repository.ReplaceAsync("version.txt", $"{version - 1}", $"{version}");
            await DeployAsync(0);
        }
        const string answer = "res.end(fs.readFileSync('/app/version.txt'));", failing = "{ res.statusCode = 500; res.end('99'); }";
        await repository.ReplaceAsync("server.js", answer, failing);
        await DeployAsync(1);
        await Task.Delay(TimeSpan.FromSeconds(1));

        var seconds = start.Elapsed.TotalSeconds;
        await stop.CancelAsync();
        await Task.WhenAll(visitors);
        output.WriteLine($"{answers.Count} requests in {seconds:0.0} s over {redeploys} redeploys and one that failed its health check");
        Assert.Empty(answers.Select(a => a.Fault).OfType<string>());
        Assert.True(answers.Count / seconds > 0.8 * PerSecond, $"only {answers.Count / seconds:0} requests/s");
        // Nobody who asks after someone has seen a version sees an older one.
        var seen = 0;
        var ended = new Queue<(long Ended, int Version)>(answers.OrderBy(a => a.Ended).Select(a => (a.Ended, a.Version)));
        foreach (var (began, _, version, _) in answers.OrderBy(a => a.Began))
        {
            while (ended.TryPeek(out var earlier) && earlier.Ended <= began)
                seen = Math.Max(seen, ended.Dequeue().Version);
            Assert.True(version >= seen, $"version {version} after version {seen}");
        }
        Assert.Equal(Enumerable.Range(1, redeploys + 1), answers.Select(a => a.Version).Distinct().Order());

        var rollback = Stopwatch.StartNew();
        var rolled = install.MustAsync("rollback", "redeployed");
        await Install.EventuallyAsync(async () => (await install.GetAsync(Host)).Body.Trim() == $"{redeploys}", TimeSpan.FromSeconds(10));
        output.WriteLine($"the version before answered {rollback.Elapsed.TotalSeconds:0.00} s after the rollback's command was begun");
        Assert.True(rollback.Elapsed < TimeSpan.FromSeconds(3), $"the rollback took {rollback.Elapsed}");
        await rolled;
        await install.MustAsync("apps", "destroy", "redeployed", "--confirm", "redeployed");

        async Task DeployAsync(int exitCode)
        {
            var ran = await install.AppoxyAsync("deploy", "redeployed", "--git", repository.Url, "--ref", "main");
            Assert.True(ran.ExitCode == exitCode, ran.ToString());
        }
    }

    private void Visit(CancellationToken stop)
    {
        HttpLine? line = null;
        var pace = Stopwatch.StartNew();
        for (var turn = 1; !stop.IsCancellationRequested; turn++)
        {
            var began = Stopwatch.GetTimestamp();
            var (version, fault) = (0, (string?)null);
            try
            {
                line ??= new HttpLine(install.HttpPort);
                var (status, body) = line.Ask(Host, close: turn % 2 == 0);
                if (status != 200 || !int.TryParse(body.Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out version))
                    fault = $"{DateTimeOffset.UtcNow:HH:mm:ss.fff}: {status} {body[..Math.Min(40, body.Length)]}";
            }
            catch (Exception e) when (e is IOException or System.Net.Sockets.SocketException)
            {
                fault = $"{DateTimeOffset.UtcNow:HH:mm:ss.fff}: {e.Message}";
            }
            lock (answers)
                answers.Add((began, Stopwatch.GetTimestamp(), version, fault));
            if (fault is not null || line!.Closed)
            {
                line?.Dispose();
                line = null;
            }
            var ahead = TimeSpan.FromSeconds((double)turn * Visitors / PerSecond) - pace.Elapsed;
            if (ahead > TimeSpan.Zero)
                Thread.Sleep(ahead);
        }
        line?.Dispose();
    }
}
