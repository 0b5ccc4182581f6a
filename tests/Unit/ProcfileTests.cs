using Appoxy.Droidd.Builds;

namespace Appoxy.Tests.Unit;

public sealed class ProcfileTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("appoxy-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Theory]
    [InlineData("web: node server.js", "web=node server.js")]
    [InlineData("worker: a: b\nweb:x\n", "web=x|worker=a: b")]
    [InlineData("\ufeff# types\r\n\r\n  web :  npm start  \r\nurgent-worker_2: ./work --fast\r\nrelease: rake db:migrate", "web=npm start|release=rake db:migrate|urgent-worker_2=./work --fast")]
    [InlineData("worker: w", "web=|worker=w")]
    [InlineData("", "web=")]
    [InlineData("Web: x", "web=|Web=x")]
    public void Types_are_read_with_their_commands(string text, string expected)
    {
        var types = Procfile.Parse(text, line => Assert.Fail($"line {line}"));
        Assert.Equal(expected, string.Join('|', types.Select(t => $"{t.Type}={t.Command}")));
        Assert.All(types, t => Assert.Null(t.Entrypoint));
    }

    [Theory]
    [InlineData("web: x\nnot a line\n", 2)]
    [InlineData("two words: x", 1)]
    [InlineData("web:", 1)]
    [InlineData(": x", 1)]
    [InlineData("-x: y", 1)]
    [InlineData("a.b: y", 1)]
    public void Line_that_is_none_is_told_of_and_left_out(string text, int line)
    {
        var skipped = new List<int>();
        Assert.Equal(["web"], Procfile.Parse(text, skipped.Add).Select(t => t.Type));
        Assert.Equal([line], skipped);
    }

    [Fact]
    public void Type_named_twice_is_refused()
    {
        var fault = Assert.Throws<BuildException>(() => Procfile.Parse("web: x\nweb: y", _ => { }));
        Assert.Equal(FailureReasons.Source, fault.Reason);
        Assert.Contains("line 2 names web a second time", fault.Message, StringComparison.Ordinal);
        Assert.Throws<BuildException>(() => Procfile.Parse(string.Concat(Enumerable.Range(0, 30).Select(n => $"t{n}: x\n")), _ => { }));
    }

    [Fact]
    public async Task Procfile_that_is_a_link_is_not_followed()
    {
        File.CreateSymbolicLink(Path.Combine(folder, "Procfile"), "/etc/passwd");
        using var log = new BuildLog(Path.Combine(folder, "log"));
        await Assert.ThrowsAsync<BuildException>(() => Procfile.ReadAsync(folder, log, default));
        File.Delete(Path.Combine(folder, "Procfile"));
        Assert.Equal([new ProcessType("web")], await Procfile.ReadAsync(folder, log, default));
    }

    [Theory]
    [InlineData("web", 1, null)]
    [InlineData("web", 0, "from 1 to 20")]
    [InlineData("worker", 0, null)]
    [InlineData("worker", 21, "from 0 to 20")]
    [InlineData("release", 1, "release")]
    [InlineData("a b", 1, "no process type")]
    public void Counts_have_bounds(string type, int count, string? fault) =>
        Assert.True(fault is null ? Formations.Fault(type, count) is null : Formations.Fault(type, count)!.Contains(fault, StringComparison.Ordinal));

    [Fact]
    public void Formation_that_says_nothing_is_one_web() =>
        Assert.Equal((1, 0, 0), (new Dictionary<string, int>().CountOf("web"), new Dictionary<string, int>().CountOf("worker"),
            new Dictionary<string, int> { ["release"] = 3 }.CountOf("release")));
}
