using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace Appoxy.Cli;

/// <summary>routerd's API. Every call ends with what was asked for or throws <see cref="Failure"/>.</summary>
internal sealed class Routerd : IDisposable
{
    /// <summary>How long a call may take.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    /// <summary>How long a call may take that waits for a droid: the longest start time-out, and a little.</summary>
    public static readonly TimeSpan DroidPatience = TimeSpan.FromMinutes(11);

    private const int MaxPages = 2000;
    private const int PageSize = 500;
    private static readonly TimeSpan UploadPatience = TimeSpan.FromHours(1);

    /// <summary>As all of Appoxy reads JSON, but a newer routerd may tell more than this CLI knows.</summary>
    private static readonly JsonSerializerOptions Lenient =
        new(AppoxyJson.Default.Options) { UnmappedMemberHandling = JsonUnmappedMemberHandling.Skip };

    private readonly HttpClient http;
    private readonly Uri url;

    public Routerd(Connection connection)
    {
        http = LocalHttp.For(connection.Url, Timeout.InfiniteTimeSpan);
        http.MaxResponseContentBufferSize = 64 << 20;
        if (connection.Token is not null)
            http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", connection.Token);
        url = http.BaseAddress!;
    }

    public Uri Url => url;

    /// <summary>The path of an app, and of what belongs to it.</summary>
    public static string App(string name, string? below = null) =>
        $"v1/apps/{Uri.EscapeDataString(name)}{(below is null ? "" : "/" + below)}";

    public Task<Answer<T>> GetAsync<T>(string path, CancellationToken cancel) => SendAsync<T>(HttpMethod.Get, path, null, Patience, cancel);

    /// <summary>A whole list, page by page.</summary>
    /// <param name="path">Its path, maybe with a query.</param>
    /// <param name="cancel">Ends it.</param>
    /// <param name="most">How many of it at most.</param>
    public async Task<Answer<Page<T>>> ListAsync<T>(string path, CancellationToken cancel, int most = int.MaxValue)
    {
        var (items, json) = (new List<T>(), new List<JsonElement>());
        var query = path + (path.Contains('?', StringComparison.Ordinal) ? '&' : '?');
        string? next = null;
        for (var pages = 0; pages < MaxPages; pages++)
        {
            var page = await GetAsync<Page<T>>(
                $"{query}limit={Math.Min(PageSize, most - items.Count)}{(next is null ? "" : "&after=" + Uri.EscapeDataString(next))}", cancel);
            items.AddRange(page.Value.Items);
            json.AddRange(page.Items.EnumerateArray());
            next = page.Value.Next;
            if (next is null || items.Count >= most)
                return new Answer<Page<T>>(new Page<T>(items), Whole(json));
        }
        throw new Failure(ExitCodes.Failed, $"{url} has more than {MaxPages} pages of {path}");
    }

    /// <summary>Asks whether a browser would be sent on from here.</summary>
    public async Task RequireRedirectAsync(string path, CancellationToken cancel)
    {
        using var response = await SendAsync(HttpMethod.Get, path, null, Patience, cancel, redirects: true);
        if (response.StatusCode != HttpStatusCode.Redirect)
            throw NotAppoxy();
    }

    public Task<Answer<T>> PostAsync<T>(string path, CancellationToken cancel, TimeSpan? patience = null) =>
        SendAsync<T>(HttpMethod.Post, path, null, patience ?? Patience, cancel);

    public Task<Answer<T>> PostAsync<TBody, T>(string path, TBody body, CancellationToken cancel, TimeSpan? patience = null) =>
        SendAsync<T>(HttpMethod.Post, path, Body(body), patience ?? Patience, cancel);

    /// <summary>Sends a folder, which on a slow line may take an hour.</summary>
    public Task<Answer<Upload>> UploadAsync(string path, FolderUpload folder, CancellationToken cancel) =>
        SendAsync<Upload>(HttpMethod.Post, path, folder, UploadPatience, cancel);

    /// <summary>Env and settings may replace a container, which takes as long as its start.</summary>
    public Task<Answer<T>> PatchAsync<TBody, T>(string path, TBody body, CancellationToken cancel) =>
        SendAsync<T>(HttpMethod.Patch, path, Body(body), DroidPatience, cancel);

    public Task<Answer<T>> PutAsync<TBody, T>(string path, TBody body, CancellationToken cancel) =>
        SendAsync<T>(HttpMethod.Put, path, Body(body), Patience, cancel);

    /// <summary>Sends what is answered by nothing.</summary>
    public async Task PutJsonAsync<TBody>(string path, TBody body, CancellationToken cancel) =>
        (await SendAsync(HttpMethod.Put, path, Body(body), Patience, cancel)).Dispose();

    /// <summary>As above.</summary>
    public async Task PostJsonAsync<TBody>(string path, TBody body, CancellationToken cancel) =>
        (await SendAsync(HttpMethod.Post, path, Body(body), Patience, cancel)).Dispose();

    public async Task DeleteAsync(string path, CancellationToken cancel) =>
        (await SendAsync(HttpMethod.Delete, path, null, Patience, cancel)).Dispose();

    /// <summary>A log, as it comes; only its first byte is waited for with bounds.</summary>
    public async Task<Stream> StreamAsync(string path, CancellationToken cancel)
    {
        var response = await SendAsync(HttpMethod.Get, path, null, Patience, cancel);
        if (response.Content.Headers.ContentType?.MediaType == "text/html")
        {
            response.Dispose();
            throw NotAppoxy();
        }
        return await response.Content.ReadAsStreamAsync(cancel);
    }

    /// <summary>A file, as it comes; its first byte may take as long as it takes to make it.</summary>
    public async Task<Stream> DownloadAsync(string path, CancellationToken cancel) =>
        await (await SendAsync(HttpMethod.Get, path, null, UploadPatience, cancel)).Content.ReadAsStreamAsync(cancel);

    /// <summary>Sends a file of any length.</summary>
    public async Task PutAsync(string path, Stream file, CancellationToken cancel) =>
        (await SendAsync(HttpMethod.Put, path, new StreamContent(file), UploadPatience, cancel)).Dispose();

    public void Dispose() => http.Dispose();

    private static JsonElement Whole(List<JsonElement> items)
    {
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes))
        {
            json.WriteStartObject();
            json.WriteStartArray("items");
            items.ForEach(item => item.WriteTo(json));
            json.WriteEndArray();
            json.WriteEndObject();
        }
        return JsonElement.Parse(bytes.ToArray());
    }

    private static ByteArrayContent Body<T>(T body)
    {
        var type = (JsonTypeInfo<T>)AppoxyJson.Default.GetTypeInfo(typeof(T))!;
        var content = new ByteArrayContent(JsonSerializer.SerializeToUtf8Bytes(body, type));
        content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        return content;
    }

    private async Task<Answer<T>> SendAsync<T>(
        HttpMethod method, string path, HttpContent? body, TimeSpan patience, CancellationToken cancel)
    {
        using var bounded = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bounded.CancelAfter(patience);
        using var response = await SendAsync(method, path, body, patience, cancel);
        try
        {
            var bytes = await response.Content.ReadAsByteArrayAsync(bounded.Token);
            using var json = JsonDocument.Parse(bytes);
            var value = json.RootElement.Deserialize((JsonTypeInfo<T>)Lenient.GetTypeInfo(typeof(T)));
            return value is null ? throw new JsonException() : new Answer<T>(value, json.RootElement.Clone());
        }
        catch (JsonException)
        {
            throw NotAppoxy();
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            throw new Unreachable($"{url} broke off its answer: {e.Message}");
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new Unreachable($"{url} did not answer within {Output.Span(patience)}");
        }
    }

    /// <summary>Sends one request; the answer is 2xx, or a redirect where that will do, its body not yet read.</summary>
    private async Task<HttpResponseMessage> SendAsync(
        HttpMethod method, string path, HttpContent? body, TimeSpan patience, CancellationToken cancel, bool redirects = false)
    {
        using var bounded = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bounded.CancelAfter(patience);
        using var request = new HttpRequestMessage(method, path) { Content = body };
        HttpResponseMessage? response = null;
        try
        {
            response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, bounded.Token);
            if (response.IsSuccessStatusCode || (redirects && response.StatusCode == HttpStatusCode.Redirect))
                return response;
            var failure = FailureOf(response, await response.Content.ReadAsByteArrayAsync(bounded.Token));
            response.Dispose();
            throw failure;
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            response?.Dispose();
            throw new Unreachable($"can't reach {url}: {e.Message}");
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            response?.Dispose();
            throw new Unreachable($"{url} did not answer within {Output.Span(patience)}");
        }
    }

    private Failure NotAppoxy() => new(ExitCodes.Failed, $"{url} does not answer as Appoxy does; is that the console's URL?");

    /// <summary>What an answer other than 2xx means for the user.</summary>
    private Failure FailureOf(HttpResponseMessage response, byte[] body)
    {
        var status = (int)response.StatusCode;
        if (status is >= 300 and < 400)
            return new Failure(ExitCodes.Failed, $"{url} redirects to {response.Headers.Location}; set APPOXY_URL to where it leads");
        var asked = $"{response.RequestMessage?.Method} {response.RequestMessage?.RequestUri?.AbsolutePath}";
        var detail = Detail(body) ?? response.StatusCode switch
        {
            HttpStatusCode.Unauthorized => $"{url} does not accept the token; see APPOXY_TOKEN, or run: appoxy login",
            HttpStatusCode.Forbidden => "that is not allowed with this token",
            HttpStatusCode.RequestEntityTooLarge => $"what was sent is longer than {url} takes",
            _ => $"{url} answers {status} {response.ReasonPhrase} to {asked}",
        };
        return response.StatusCode switch
        {
            HttpStatusCode.BadRequest => Failure.Usage(detail),
            HttpStatusCode.NotFound => new Failure(ExitCodes.NotFound, detail),
            HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden => new Failure(ExitCodes.NotAllowed, detail),
            HttpStatusCode.RequestTimeout or HttpStatusCode.TooManyRequests or >= HttpStatusCode.InternalServerError =>
                new Unreachable(detail),
            _ => new Failure(ExitCodes.Failed, detail),
        };
    }

    /// <summary>The detail of a problem+json; null where the body is none.</summary>
    private static string? Detail(byte[] body)
    {
        try
        {
            using var json = JsonDocument.Parse(body);
            return json.RootElement.ValueKind == JsonValueKind.Object && json.RootElement.TryGetProperty("detail", out var detail)
                && detail.ValueKind == JsonValueKind.String ? detail.GetString() : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}

/// <summary>An answer of the API, and its JSON just as it came.</summary>
internal sealed record Answer<T>(T Value, JsonElement Json)
{
    /// <summary>The JSON of a page's items.</summary>
    public JsonElement Items => Json.GetProperty("items");
}
