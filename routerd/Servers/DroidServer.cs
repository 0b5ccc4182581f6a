using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Appoxy.Cluster;
using Appoxy.Daemon;

namespace Appoxy.Routerd.Servers;

/// <summary>
/// One droid-server's droidd, over HTTP. Where it is away or refuses, a <see cref="Problem"/> says so in words for the user.
/// </summary>
internal sealed partial class DroidServer(string name, string address, NodeIdentity? identity, ILogger log) : IDisposable
{
    private static readonly TimeSpan Quick = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan Put = TimeSpan.FromSeconds(15);

    // A test by nginx -t, a reload, a probe, and the same back: each with a time-out of its own.
    private static readonly TimeSpan TemplateLimit = TimeSpan.FromSeconds(75);

    // An app may take up to ten minutes to start, and a stop waits for requests in flight.
    private static readonly TimeSpan Patient = TimeSpan.FromMinutes(11);

    // For a large folder on a slow line.
    private static readonly TimeSpan UploadLimit = TimeSpan.FromHours(1);

    private readonly HttpClient http = LocalHttp.For(address, Timeout.InfiniteTimeSpan,
        identity?.ClientOptions(new NodeName(name, Roles.DroidServer).Host, Roles.DroidServer, fault => LogDistrusted(log, name, address, fault)));

    public string Name => name;

    public string Address => address;

    /// <summary>Null where it has no such droid.</summary>
    public async Task<DroidStatus?> FindAsync(string uid, CancellationToken cancel)
    {
        try
        {
            return await AskAsync(HttpMethod.Get, $"droids/{uid}", null, AppoxyJson.Default.DroidStatus, Quick, cancel);
        }
        catch (Problem e) when (e.Status == 404)
        {
            return null;
        }
    }

    public Task<IReadOnlyList<DroidStatus>> ListAsync(CancellationToken cancel) =>
        AskAsync(HttpMethod.Get, "droids", null, AppoxyJson.Default.IReadOnlyListDroidStatus, Quick, cancel);

    /// <summary>Opens what its droidd counts, as Prometheus reads it.</summary>
    public Task<HttpResponseMessage> OpenMetricsAsync(CancellationToken cancel) => SendAsync(HttpMethod.Get, "metrics", null, Put, true, cancel);

    /// <summary>What its droidd finds wrong there.</summary>
    public Task<DroidServerFindings> ExamineAsync(CancellationToken cancel) =>
        AskAsync(HttpMethod.Get, "doctor", null, AppoxyJson.Default.DroidServerFindings, Quick, cancel);

    public Task<ServerStatus> StatusAsync(CancellationToken cancel) =>
        AskAsync(HttpMethod.Get, "server", null, AppoxyJson.Default.ServerStatus, Quick, cancel);

    /// <summary>Collects what nothing uses.</summary>
    public Task<Collection> PruneAsync(CancellationToken cancel) =>
        AskAsync(HttpMethod.Post, "prune", null, AppoxyJson.Default.Collection, Patient, cancel);

    public Task<DroidStatus> PutAsync(DroidSpec spec, CancellationToken cancel) =>
        AskAsync(HttpMethod.Put, $"droids/{spec.Uid}", JsonContent.Create(spec, AppoxyJson.Default.DroidSpec),
            AppoxyJson.Default.DroidStatus, Put, cancel);

    /// <param name="uid">The droid.</param>
    /// <param name="action"><c>start</c>, <c>stop</c>, <c>restart</c>, <c>snooze</c> or <c>wake</c>.</param>
    /// <param name="cancel">Ends the wait, not the action.</param>
    public Task<DroidStatus> ActAsync(string uid, string action, CancellationToken cancel) =>
        AskAsync(HttpMethod.Post, $"droids/{uid}/{action}", null, AppoxyJson.Default.DroidStatus, Patient, cancel);

    public Task<DroidStatus> CancelAsync(string uid, int deployment, CancellationToken cancel) =>
        AskAsync(HttpMethod.Post, $"droids/{uid}/deployments/{deployment}/cancel", null, AppoxyJson.Default.DroidStatus, Put, cancel);

    /// <summary>The deployments of a droid whose image it keeps, newest first.</summary>
    public Task<IReadOnlyList<KeptImage>> KeptAsync(string uid, CancellationToken cancel) =>
        AskAsync(HttpMethod.Get, $"droids/{uid}/images", null, AppoxyJson.Default.IReadOnlyListKeptImage, Quick, cancel);

    /// <summary>Passes a tar.gz on as it comes.</summary>
    public Task<Upload> UploadAsync(string uid, Stream source, CancellationToken cancel) =>
        AskAsync(HttpMethod.Post, $"droids/{uid}/uploads", new StreamContent(source), AppoxyJson.Default.Upload, UploadLimit, cancel);

    /// <summary>An app's volumes that it has, and what they hold.</summary>
    public Task<IReadOnlyList<VolumeSize>> VolumesAsync(string uid, CancellationToken cancel) =>
        AskAsync(HttpMethod.Get, $"droids/{uid}/volumes", null, AppoxyJson.Default.IReadOnlyListVolumeSize, Put, cancel);

    /// <summary>Opens a volume's files as tar.gz, which may take as long as a copy of them.</summary>
    public Task<HttpResponseMessage> OpenVolumeAsync(string uid, string id, CancellationToken cancel) =>
        SendAsync(HttpMethod.Get, $"droids/{uid}/volumes/{id}/files", null, UploadLimit, true, cancel);

    /// <summary>Passes a tar.gz on as it comes, to be all that a volume holds.</summary>
    public async Task FillVolumeAsync(string uid, string id, Stream source, CancellationToken cancel)
    {
        using var response = await SendAsync(
            HttpMethod.Put, $"droids/{uid}/volumes/{id}/files", new StreamContent(source), UploadLimit, false, cancel);
    }

    public async Task DeleteVolumeAsync(string uid, string id, CancellationToken cancel)
    {
        using var response = await SendAsync(HttpMethod.Delete, $"droids/{uid}/volumes/{id}", null, Put, false, cancel);
    }

    /// <summary>What a template would become at the local nginx; nothing changes.</summary>
    public Task<TemplatePreview> TryTemplateAsync(TemplateTest template, CancellationToken cancel) =>
        AskAsync(HttpMethod.Post, "template/test", JsonContent.Create(template, AppoxyJson.Default.TemplateTest),
            AppoxyJson.Default.TemplatePreview, TemplateLimit, cancel);

    /// <summary>Has the local nginx brought to what its templates say now.</summary>
    public Task<TemplateStatus> ApplyTemplatesAsync(CancellationToken cancel) =>
        AskAsync(HttpMethod.Post, "template/apply", null, AppoxyJson.Default.TemplateStatus, TemplateLimit, cancel);

    /// <summary>Removes a droid.</summary>
    /// <param name="uid">The droid.</param>
    /// <param name="generation">Not if the droid is of a newer one, for which the answer is 412; null for whatever it is of.</param>
    /// <param name="drain">Whether requests end first, those too that still come for a while; bounded by the server's drain time-out.</param>
    /// <param name="cancel">Ends the wait.</param>
    public async Task DeleteAsync(string uid, long? generation, bool drain, CancellationToken cancel)
    {
        using var response = await SendAsync(HttpMethod.Delete, $"droids/{uid}?drain={(drain ? "true" : "false")}{(generation is { } g ? $"&generation={g}" : "")}",
            null, drain ? Patient : TimeSpan.FromMinutes(1), false, cancel);
    }

    /// <summary>What its deployments of an app came to.</summary>
    public Task<IReadOnlyList<HandedRelease>> ReleasesAsync(string uid, CancellationToken cancel) =>
        AskAsync(HttpMethod.Get, $"droids/{uid}/releases", null, AppoxyJson.Default.IReadOnlyListHandedRelease, Put, cancel);

    /// <summary>Tells it of deployments on another server; those whose image it lacks are returned.</summary>
    public Task<IReadOnlyList<int>> TakeReleasesAsync(string uid, IReadOnlyList<HandedRelease> releases, CancellationToken cancel) =>
        AskAsync(HttpMethod.Put, $"droids/{uid}/releases", JsonContent.Create(releases, AppoxyJson.Default.IReadOnlyListHandedRelease),
            AppoxyJson.Default.IReadOnlyListInt32, Put, cancel);

    /// <summary>Opens the images of some deployments, as docker save writes them.</summary>
    public Task<HttpResponseMessage> OpenImagesAsync(string uid, IEnumerable<int> deployments, CancellationToken cancel) =>
        SendAsync(HttpMethod.Get, $"droids/{uid}/releases/images?deployments={string.Join(',', deployments)}", null, UploadLimit, true, cancel);

    /// <summary>Passes images on as they come.</summary>
    public async Task LoadImagesAsync(string uid, Stream images, CancellationToken cancel)
    {
        using var response = await SendAsync(HttpMethod.Put, $"droids/{uid}/releases/images", new StreamContent(images), UploadLimit, false, cancel);
    }

    /// <summary>Opens a log; its body comes as droidd writes it.</summary>
    /// <param name="uid">The droid.</param>
    /// <param name="query">Such as <c>?follow=true</c>.</param>
    /// <param name="cancel">Ends the wait for the first byte.</param>
    public Task<HttpResponseMessage> OpenLogAsync(string uid, string query, CancellationToken cancel) =>
        SendAsync(HttpMethod.Get, $"droids/{uid}/logs{query}", null, Put, true, cancel);

    private async Task<T> AskAsync<T>(
        HttpMethod method, string path, HttpContent? content, JsonTypeInfo<T> type, TimeSpan limit, CancellationToken cancel)
    {
        using var response = await SendAsync(method, path, content, limit, false, cancel);
        try
        {
            return await response.Content.ReadFromJsonAsync(type, cancel) ?? throw new JsonException("null");
        }
        catch (JsonException e)
        {
            throw new Problem(502,
                $"Droid-server {name} answers {path} with what routerd can't read ({e.Message}); are both of one version?");
        }
    }

    private async Task<HttpResponseMessage> SendAsync(
        HttpMethod method, string path, HttpContent? content, TimeSpan limit, bool streamed, CancellationToken cancel)
    {
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(limit);
        using var request = new HttpRequestMessage(method, path) { Content = content };
        if (RequestId.Current is { } id)
            request.Headers.Add(RequestId.Header, id);
        try
        {
            var response = await http.SendAsync(request,
                streamed ? HttpCompletionOption.ResponseHeadersRead : HttpCompletionOption.ResponseContentRead, bound.Token);
            if (response.IsSuccessStatusCode)
                return response;
            using (response)
                throw await RefusalAsync(response, bound.Token);
        }
        catch (Exception e) when (e is HttpRequestException or IOException
                                  || (e is OperationCanceledException && !cancel.IsCancellationRequested))
        {
            throw Problem.Unavailable($"Droid-server {name} does not answer; what runs there keeps serving. Try again in a moment.");
        }
    }

    private async Task<Problem> RefusalAsync(HttpResponseMessage response, CancellationToken cancel)
    {
        var detail = $"Droid-server {name} answers {(int)response.StatusCode}.";
        try
        {
            using var body = await JsonDocument.ParseAsync(await response.Content.ReadAsStreamAsync(cancel), default, cancel);
            if (body.RootElement.ValueKind == JsonValueKind.Object && body.RootElement.TryGetProperty("detail", out var text))
                detail = text.GetString() ?? detail;
        }
        catch (JsonException)
        {
            // Not droidd's own words: the status must do.
        }
        var status = response.StatusCode is HttpStatusCode.BadRequest or HttpStatusCode.NotFound or HttpStatusCode.Conflict
            or HttpStatusCode.PreconditionFailed or HttpStatusCode.ServiceUnavailable or HttpStatusCode.RequestEntityTooLarge or HttpStatusCode.InsufficientStorage
            ? (int)response.StatusCode
            : 502;
        return new Problem(status, detail);
    }

    public void Dispose() => http.Dispose();

    [LoggerMessage(Level = LogLevel.Warning, Message = "Who answers for {Server} at {Address} is not believed: {Fault}")]
    private static partial void LogDistrusted(ILogger log, string server, string address, string fault);
}
