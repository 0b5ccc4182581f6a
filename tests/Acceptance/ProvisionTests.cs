using System.Net;

namespace Appoxy.Tests.Acceptance;

[Collection(FirstLane.Name)]
public sealed class ProvisionTests(Install install)
{
    [Fact]
    public async Task First_run_takes_under_six_minutes_and_the_sample_answers()
    {
        Assert.True(install.FirstRun < TimeSpan.FromMinutes(6), $"it took {install.FirstRun}");
        Assert.Contains($"http://hello.localhost:{install.HttpPort}", install.FirstOutput, StringComparison.Ordinal);
        var (status, body, _) = await install.GetAsync("hello.localhost");
        Assert.Equal(HttpStatusCode.OK, status);
        Assert.Contains("<html", body, StringComparison.OrdinalIgnoreCase);
        // The request really passed the local nginx and the container.
        using var local = LocalHttp.For($"unix:{install.Prefix}/run/appoxy/local-control.sock", TimeSpan.FromSeconds(5));
        var droid = await install.DroidAsync("hello");
        Assert.Contains($"{droid.Uid} running {droid.Live!.Address}", await local.GetStringAsync("droids"), StringComparison.Ordinal);
        Assert.Contains(droid.Uid, await local.GetStringAsync("activity"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Second_run_changes_nothing_and_takes_under_thirty_seconds()
    {
        string[] services = ["global_nginx", "local_nginx", "routerd", "droidd", "redis", "postgres", "docker"];
        var before = services.Select(install.Pid).ToArray();
        var files = Files();
        var start = DateTimeOffset.UtcNow;
        var ran = await install.ProvisionAsync("--prefix", install.Prefix);
        Assert.True(ran.ExitCode == 0, ran.ToString());
        Assert.True(DateTimeOffset.UtcNow - start < TimeSpan.FromSeconds(30));
        Assert.Equal(before, services.Select(install.Pid).ToArray());
        Assert.Equal(files, Files());

        string Files() => string.Join('\n', new[] { "etc/appoxy", "usr", "bin" }
            .SelectMany(d => Directory.EnumerateFiles(Path.Combine(install.Prefix, d), "*", SearchOption.AllDirectories))
            .Where(f => !f.EndsWith("install.json", StringComparison.Ordinal))
            .Order(StringComparer.Ordinal).Select(f => $"{f} {File.GetLastWriteTimeUtc(f):O}"));
    }

    [Theory]
    [InlineData("--prefix", "relative/dir")]
    [InlineData("--prefix", "/tmp/appoxy-x", "--http-port", "99999")]
    [InlineData("--prefix", "/tmp/appoxy-x", "--http-port", "abc")]
    [InlineData("--prefix", "/tmp/appoxy-x", "--domain", "no_domain")]
    [InlineData("--prefix", "/tmp/appoxy-x", "--name", "DS 1")]
    [InlineData("--no-such-option")]
    [InlineData("--prefix")]
    public async Task Bad_options_are_refused_with_one_line(params string[] arguments)
    {
        var ran = await install.ProvisionAsync(arguments);
        Assert.NotEqual(0, ran.ExitCode);
        Assert.Single(ran.Error.Trim().Split('\n'));
        Assert.False(Directory.Exists("/tmp/appoxy-x"));
    }

    [Fact]
    public async Task A_port_that_another_program_has_is_named()
    {
        var ran = await install.ProvisionAsync("--prefix", "/tmp/appoxy-x", "--http-port", $"{install.HttpPort}");
        Assert.NotEqual(0, ran.ExitCode);
        Assert.Contains(install.HttpPort.ToString(System.Globalization.CultureInfo.InvariantCulture), ran.Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists("/tmp/appoxy-x/var"));
    }

    [Fact]
    public async Task Status_tells_every_service()
    {
        var ran = await install.ProvisionAsync("--prefix", install.Prefix, "--status");
        Assert.True(ran.ExitCode == 0, ran.ToString());
        foreach (var service in new[] { "postgres", "redis", "docker", "routerd", "droidd", "global-nginx", "local-nginx" })
            Assert.Contains(service, ran.Output, StringComparison.Ordinal);
    }
}
