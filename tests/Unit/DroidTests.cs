using Appoxy.Droidd.Droids;

namespace Appoxy.Tests.Unit;

public sealed class DroidTests
{
    [Theory]
    [InlineData("2026-01-31T12:00:00.123456789Z hello", "2026-01-31T12:00:00.123456Z app: hello")]
    [InlineData("2026-01-31T12:00:00.1Z two words", "2026-01-31T12:00:00.100000Z app: two words")]
    [InlineData("2026-01-31T12:00:00Z ", "2026-01-31T12:00:00.000000Z app: ")]
    public void Log_lines_get_one_form_that_sorts_by_time(string line, string expected) => Assert.Equal(expected, DroidLogs.Form(line));

    [Theory]
    [InlineData(new[] { "3000/tcp" }, 3000)]
    [InlineData(new[] { "3000" }, 3000)]
    [InlineData(new[] { "3000/tcp", "53/udp" }, 3000)]
    [InlineData(new[] { "3000/tcp", "3001/tcp" }, null)]
    [InlineData(new[] { "53/udp" }, null)]
    [InlineData(new string[0], null)]
    public void Only_exposed_tcp_port_is_the_apps(string[] exposed, int? expected) => Assert.Equal(expected, DroidContainers.ExposedPort(exposed));

    public static TheoryData<DroidSpec, string> BadSpecs => new()
    {
        { Good with { Uid = "bcdefgh" }, "uid" },
        { Good with { App = "Bad Name" }, "app" },
        { Good with { Generation = 0 }, "generation" },
        { Good with { Source = new DroidSource() }, "source" },
        { Good with { Source = new DroidSource { Image = "-x" } }, "image" },
        { Good with { Source = new DroidSource { Upload = "abc" } }, "upload" },
        { Good with { Source = new DroidSource { Upload = new string('a', 64), Image = "shop" } }, "source" },
        { Good with { Builder = "make" }, "builder" },
        { Good with { Buildpacks = ["--x"] }, "buildpacks" },
        { Good with { RollbackTo = 1 }, "rollbackTo" },
        { Good with { Env = new Dictionary<string, string> { ["1X"] = "" } }, "env" },
        { Good with { Formation = new Dictionary<string, int> { ["web"] = 0 } }, "formation" },
        { Good with { Port = 0 }, "port" },
        { Good with { Limits = new DroidLimits(1) }, "limits" },
        { Good with { Policy = new DroidPolicy(StartTimeout: 0) }, "policy" },
        { Good with { Policy = new DroidPolicy(Health: "x") }, "health" },
        { Good with { Desired = "asleep" }, "desired" },
    };

    private static DroidSpec Good => new()
    {
        Uid = "abcdefg", App = "shop", Generation = 1, Deployment = 1, Source = new DroidSource { Image = "shop" },
    };

    [Fact]
    public void Good_spec_is_taken() => Assert.Null(DroidEndpoints.SpecFault("abcdefg", Good));

    [Theory]
    [MemberData(nameof(BadSpecs))]
    public void Bad_spec_is_refused_by_name(DroidSpec spec, string named) =>
        Assert.Contains(named, DroidEndpoints.SpecFault("abcdefg", spec), StringComparison.Ordinal);
}
