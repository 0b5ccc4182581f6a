using System.Globalization;
using System.Text;
using Appoxy.Routerd.Servers;
using Microsoft.AspNetCore.Http.Features;

namespace Appoxy.Routerd.Droids;

/// <summary>Passes logs from droidd on to a caller, each piece as it comes.</summary>
internal static class LogRelay
{
    /// <summary>Of the time that a line begins with.</summary>
    private const int StampLength = 27;
    private const int MaxTries = 600;

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

    /// <summary>
    /// Copies an app's log until the caller goes or the app does. A droidd that is away for a while only delays it, which the log says: it
    /// is asked again for what came after the last line.
    /// </summary>
    public static async Task FollowAsync(DroidServer server, string uid, HttpResponseMessage first, Stream target, CancellationToken cancel)
    {
        await target.FlushAsync(cancel);
        var source = first;
        var (last, resumed) = (Stamp(DateTimeOffset.UtcNow), false);
        while (true)
        {
            try
            {
                using var reader = new StreamReader(await source.Content.ReadAsStreamAsync(cancel));
                while (await reader.ReadLineAsync(cancel) is { } line)
                {
                    // What comes again, as far as its time tells.
                    if (resumed && string.CompareOrdinal(line, 0, last, 0, StampLength) <= 0)
                        continue;
                    resumed = false;
                    if (line.Length > StampLength && line[StampLength - 1] == 'Z')
                        last = line[..StampLength];
                    await WriteAsync(target, line, cancel);
                }
            }
            catch (Exception e) when (e is HttpRequestException or IOException && !cancel.IsCancellationRequested)
            {
                // It broke off; what follows is the same as for an end, which a droidd that stops makes.
            }
            source.Dispose();
            await WriteAsync(target, $"{Stamp(DateTimeOffset.UtcNow)} appoxy: droid-server {server.Name} broke off the log; it goes on as soon as that answers", cancel);
            if (await AgainAsync(server, uid, last, cancel) is not { } next)
                return;
            (source, resumed) = (next, true);
        }
    }

    /// <summary>The log from <paramref name="since"/> on, as soon as it can be had; null if there is none any more or it takes too long.</summary>
    private static async Task<HttpResponseMessage?> AgainAsync(DroidServer server, string uid, string since, CancellationToken cancel)
    {
        for (var tries = 0; tries < MaxTries; tries++)
        {
            await Task.Delay(TimeSpan.FromSeconds(1), cancel);
            try
            {
                return await server.OpenLogAsync(uid, "?follow=true&since=" + Uri.EscapeDataString(since), cancel);
            }
            catch (Problem e) when (e.Status == 404)
            {
                return null;
            }
            catch (Problem)
            {
                // Not yet.
            }
        }
        return null;
    }

    private static async Task WriteAsync(Stream target, string line, CancellationToken cancel)
    {
        await target.WriteAsync(Encoding.UTF8.GetBytes(line + "\n"), cancel);
        await target.FlushAsync(cancel);
    }

    private static string Stamp(DateTimeOffset at) => at.UtcDateTime.ToString("yyyy-MM-ddTHH:mm:ss.ffffffZ", CultureInfo.InvariantCulture);
}
