using System.Text;
using Appoxy.Daemon;
using Appoxy.Nginx;

namespace Appoxy.Tests.Unit;

public sealed class VisitTests
{
    [Fact]
    public void Line_of_an_access_log_is_read_whatever_a_visitor_sent()
    {
        var line = Encoding.UTF8.GetBytes("""
            {"time":"2026-11-28T15:08:17+00:00","client":"127.0.0.1","host":"va6i5wr.ds1.localhost","method":"GET","uri":"/?\"status\":200,\"uid\":\"zzzzzzz\"","protocol":"HTTP/1.1","status":503,"bytes":1910,"seconds":0.032,"upstream":"10.1.2.3:7000 : unix:/run/hook.sock","upstream_status":"502 : 503","upstream_seconds":"0.031","uid":"va6i5wr","request_id":"e8","agent":"\"bytes\":1","msec":1.0,"forwarded_host":""}
            """);
        Assert.True(Visit.TryRead(line, out var visit));
        Assert.Equal((503, 1910, 0.032), (visit.Status, visit.Bytes, visit.Seconds));
        Assert.Equal("va6i5wr 502 : 503 10.1.2.3:7000 : unix:/run/hook.sock",
            Encoding.UTF8.GetString([.. visit.Uid, .. " "u8, .. visit.UpstreamStatus, .. " "u8, .. visit.Upstream]));
        Assert.Equal("5xx", VisitLog.ClassOf(visit.Status));
        foreach (var odd in new[] { "", "{}", "\"status\":", "\"status\":x,\"bytes\":1,\"seconds\":1", "half a line", "\"status\":200,\"bytes\":1,\"seconds\":" })
            Assert.False(Visit.TryRead(Encoding.UTF8.GetBytes(odd), out _), odd);
        Assert.True(Visit.TryRead("""{"status":404,"bytes":0,"seconds":0.000,"upstream":"","upstream_status":"","uid":""}"""u8, out var none));
        Assert.True(none.Uid.IsEmpty && none.Upstream.IsEmpty);
    }

    [Fact]
    public async Task Growing_log_is_followed_over_a_rotation_and_lines_that_are_too_long()
    {
        var folder = Directory.CreateTempSubdirectory("appoxy-log-").FullName;
        try
        {
            var path = Path.Combine(folder, "local-access.log");
            await File.WriteAllTextAsync(path, "before\n");
            await using var log = new GrowingLog(path, TimeProvider.System);
            using var stop = new CancellationTokenSource();
            var lines = new StringBuilder();
            var following = log.FollowAsync(some =>
            {
                lines.Append(Encoding.UTF8.GetString(some.Span));
                return ValueTask.CompletedTask;
            }, TimeSpan.FromMilliseconds(10), stop.Token);
            await File.AppendAllTextAsync(path, "one\nha");
            await Install.EventuallyAsync(() => Task.FromResult(lines.ToString() == "one\n"), TimeSpan.FromSeconds(5));
            await File.AppendAllTextAsync(path, "lf\n" + new string('x', 3 * GrowingLog.LongestLine) + "\ntwo\n");
            File.Move(path, path + ".1");
            await File.AppendAllTextAsync(path + ".1", "late\n");
            await File.WriteAllTextAsync(path, "three\n");
            await Install.EventuallyAsync(() => Task.FromResult(lines.ToString().EndsWith("late\nthree\n", StringComparison.Ordinal)), TimeSpan.FromSeconds(10));
            Assert.StartsWith("one\nhalf\n", lines.ToString(), StringComparison.Ordinal);
            Assert.Contains("two\n", lines.ToString(), StringComparison.Ordinal);
            await stop.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => following);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
