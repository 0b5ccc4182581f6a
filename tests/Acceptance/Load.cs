using System.Collections.Concurrent;
using System.Net;

namespace Appoxy.Tests;

/// <summary>Visitors who ask a site again and again, a few at a time, until told to stop.</summary>
internal sealed class Load : IAsyncDisposable
{
    private readonly CancellationTokenSource stop = new();
    private readonly Task visitors;
    private readonly ConcurrentQueue<string> failures = new();
    private int requests;

    /// <param name="install">The platform.</param>
    /// <param name="host">The site.</param>
    /// <param name="reloads">
    /// nginx closes idle connections when it reloads; a GET that just then went out on one is sent once more, as RFC 9110 section
    /// 9.2.2 has clients do and browsers do.
    /// </param>
    /// <param name="port">The nginx; the install's own if null.</param>
    /// <param name="fresh">A connection for each request, and none is ever sent twice.</param>
    public Load(Install install, string host, bool reloads = false, int? port = null, bool fresh = false)
        : this([.. Enumerable.Range(0, 4).Select(_ => LocalHttp.For($"http://{host}:{port ?? install.HttpPort}/", TimeSpan.FromSeconds(90)))],
            TimeSpan.FromMilliseconds(10), reloads, fresh)
    {
    }

    /// <param name="visitors">One each; each visits its base address.</param>
    /// <param name="pause">Between one's visits.</param>
    /// <param name="reloads">As above.</param>
    /// <param name="fresh">As above.</param>
    public Load(IReadOnlyList<HttpClient> visitors, TimeSpan pause, bool reloads = false, bool fresh = false) =>
        this.visitors = Task.WhenAll(visitors.Select(v => Task.Run(() => VisitAsync(v, pause, reloads, fresh))));

    public int Requests => requests;

    private async Task VisitAsync(HttpClient visitor, TimeSpan pause, bool reloads, bool fresh)
    {
        using var http = visitor;
        http.DefaultRequestHeaders.ConnectionClose = fresh;
        while (!stop.IsCancellationRequested)
        {
            try
            {
                using var response = await GetAsync(http, reloads);
                if (response.StatusCode != HttpStatusCode.OK)
                    failures.Enqueue($"{DateTimeOffset.UtcNow:HH:mm:ss.fff} {http.DefaultRequestHeaders.Host} {(int)response.StatusCode}");
            }
            catch (Exception e)
            {
                failures.Enqueue($"{DateTimeOffset.UtcNow:HH:mm:ss.fff} {http.DefaultRequestHeaders.Host} {e.Message}");
            }
            Interlocked.Increment(ref requests);
            await Task.Delay(pause);
        }
    }

    private static async Task<HttpResponseMessage> GetAsync(HttpClient http, bool reloads)
    {
        try
        {
            return await http.GetAsync("");
        }
        catch (HttpRequestException) when (reloads)
        {
            return await http.GetAsync("");
        }
    }

    /// <summary>Ends the visits; none may have failed.</summary>
    public async Task EndAsync(int atLeast)
    {
        await stop.CancelAsync();
        await visitors;
        Assert.True(failures.IsEmpty, $"{failures.Count} of {requests} requests failed: {string.Join("; ", failures.Take(5))}");
        Assert.True(requests >= atLeast, $"only {requests} requests were made");
    }

    public async ValueTask DisposeAsync()
    {
        await stop.CancelAsync();
        await visitors;
        stop.Dispose();
    }
}
