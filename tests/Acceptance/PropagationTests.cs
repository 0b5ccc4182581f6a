using Xunit.Abstractions;

namespace Appoxy.Tests.Acceptance;

[Collection(Alone.Name)]
public sealed class PropagationTests(EchoServers servers, ITestOutputHelper output) : IClassFixture<EchoServers>
{
    [Fact]
    public async Task Changed_route_is_served_by_every_worker_soon_and_no_worker_goes_back_or_is_reloaded()
    {
        await using var propagation = new Propagation(servers);
        await propagation.PrepareAsync();
        var ran = await propagation.RunAsync(changes: 500, rate: 50);
        output.WriteLine(ran.ToString());
        Assert.True(ran.Wrong.Length == 0, string.Join('\n', ran.Wrong.Take(5)) + "\n" + ran);
        Assert.True(ran.Unseen == 0, ran.ToString());
        Assert.Equal(ran.Before, ran.After);
        // Of a machine that does other things too; tests/bench/run.sh propagation has the true figures.
        Assert.True(Propagated.Percentile(ran.Served, 0.5) < 60, ran.ToString());
        Assert.True(Propagated.Percentile(ran.Served, 0.99) < 400, ran.ToString());
    }
}
