using Microsoft.AspNetCore.Http.Features;

namespace Appoxy.Routerd.Droids;

/// <summary>Passes logs from droidd on to a caller, each piece as it comes.</summary>
internal static class LogRelay
{
    /// <summary>Begins a plain-text answer that nobody on its way holds back.</summary>
    public static Stream Begin(HttpContext http)
    {
        http.Features.GetRequiredFeature<IHttpResponseBodyFeature>().DisableBuffering();
        http.Response.ContentType = "text/plain; charset=utf-8";
        http.Response.Headers["X-Accel-Buffering"] = "no";
        http.Response.Headers.CacheControl = "no-store";
        return http.Response.Body;
    }

    /// <summary>Copies until the source ends or breaks, or the caller goes.</summary>
    /// <param name="source">An opened log.</param>
    /// <param name="target">The caller.</param>
    /// <param name="skip">Bytes at the source's begin that the caller has already.</param>
    /// <param name="cancel">Ends the copy.</param>
    /// <returns>How many bytes of the source the caller has now, and whether it ended rather than broke.</returns>
    public static async Task<(long Has, bool Ended)> CopyAsync(
        HttpResponseMessage source, Stream target, long skip, CancellationToken cancel)
    {
        var buffer = new byte[16 << 10];
        long read = 0;
        try
        {
            await target.FlushAsync(cancel);
            await using var body = await source.Content.ReadAsStreamAsync(cancel);
            while (await body.ReadAsync(buffer, cancel) is > 0 and var count)
            {
                var known = (int)Math.Clamp(skip - read, 0, count);
                read += count;
                if (known == count)
                    continue;
                await target.WriteAsync(buffer.AsMemory(known, count - known), cancel);
                await target.FlushAsync(cancel);
            }
            return (Math.Max(skip, read), true);
        }
        catch (Exception e) when (e is HttpRequestException or IOException && !cancel.IsCancellationRequested)
        {
            return (Math.Max(skip, read), false);
        }
    }
}
