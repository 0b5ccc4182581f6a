using System.Runtime.CompilerServices;
using CliWrap;
using CliWrap.Buffered;

namespace Appoxy.Tests.Unit;

public sealed class RouteTableTests
{
    /// <summary>The checks are in Lua, beside processes that write, read and are killed; a seed that failed is in the output.</summary>
    [Fact]
    public async Task Route_table_follows_a_plain_one_refuses_the_past_and_outlives_killed_writers()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(2));
        var ran = await Cli.Wrap("luajit").WithArguments("tests/lua/route_table.lua")
            .WithWorkingDirectory(Path.Combine(Path.GetDirectoryName(Here())!, "../.."))
            .WithValidation(CommandResultValidation.None).ExecuteBufferedAsync(limit.Token);
        Assert.True(ran.ExitCode == 0 && ran.StandardOutput.EndsWith("ok\n", StringComparison.Ordinal), ran.StandardOutput + ran.StandardError);
    }

    private static string Here([CallerFilePath] string path = "") => path;
}
