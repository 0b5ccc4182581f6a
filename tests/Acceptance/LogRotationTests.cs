namespace Appoxy.Tests.Acceptance;

[Collection(FirstLane.Name)]
public sealed class LogRotationTests(Install install) : ShopTests(install)
{
    [Fact]
    public async Task Log_of_nginx_that_has_grown_too_long_is_put_aside_and_goes_on_in_a_new_file()
    {
        var path = Path.Combine(Install.Prefix, "var/log/appoxy/global-access.log");
        await using (var log = new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.ReadWrite))
            log.SetLength(log.Length + (65 << 20));
        await Install.EventuallyAsync(() => Task.FromResult(File.Exists(path + ".1")), TimeSpan.FromSeconds(15));
        await Install.EventuallyAsync(async () =>
        {
            await Install.GetAsync("rotated.localhost");
            return File.Exists(path) && (await File.ReadAllTextAsync(path)).Contains("rotated.localhost", StringComparison.Ordinal);
        }, TimeSpan.FromSeconds(10));
    }
}
