using System.Collections.Concurrent;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Appoxy.Droidd.Builds;

namespace Appoxy.Droidd.LocalNginx;

/// <summary>What the local nginx has seen of its droids: the answer of its <c>GET /activity</c>.</summary>
/// <param name="Now">The time it was asked, in Unix milliseconds.</param>
/// <param name="Droids">uid → the last request's time, in Unix milliseconds.</param>
/// <param name="Peers"><c>ip:port</c> → requests in flight, websockets counted while they are open.</param>
/// <param name="Connections">State → open connections; null where nginx was built without telling.</param>
internal sealed record Activity(
    long Now, IReadOnlyDictionary<string, long> Droids, IReadOnlyDictionary<string, int> Peers, IReadOnlyDictionary<string, long>? Connections = null);

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web)]
[JsonSerializable(typeof(Activity))]
internal sealed partial class ActivityJson : JsonSerializerContext;

/// <summary>
/// The local nginx's dict of droids, filled through its control socket, and the snapshot file from which it fills itself at
/// start. A droid in state <c>running</c> gets its requests directly; for any other state nginx asks the hook.
/// </summary>
internal sealed partial class DroidDict(DroiddSettings settings, ILogger<DroidDict> log) : IDisposable
{
    private static readonly TimeSpan WriteDelay = TimeSpan.FromMilliseconds(200);

    private readonly HttpClient nginx = LocalHttp.For("unix:" + settings.Nginx.ControlSocket, TimeSpan.FromSeconds(3));
    private readonly ConcurrentDictionary<string, string> entries = new();
    private readonly SemaphoreSlim snapshotGate = new(1, 1);
    private readonly SemaphoreSlim[] sendGates = [.. Enumerable.Range(0, 64).Select(_ => new SemaphoreSlim(1, 1))];
    private int writing;

    /// <summary>Tells nginx; when this returns, every request is decided by the new state. An nginx that is down reads it from the snapshot.</summary>
    public async Task PutAsync(string uid, string state, string address, CancellationToken cancel)
    {
        var entry = $"{state} {address}";
        var same = entries.TryGetValue(uid, out var before) && before == entry;
        entries[uid] = entry;
        if (state == DroidStates.Running)
        {
            // Visitors wait for this one. Where the snapshot is behind, it says asleep of one that runs, and then the hook is asked.
            await SendAsync(uid, cancel);
            if (!same)
                _ = WriteSoonAsync();
            return;
        }
        await WriteSnapshotAsync(cancel);
        await SendAsync(uid, cancel);
    }

    public async Task DeleteAsync(string uid, CancellationToken cancel)
    {
        entries.TryRemove(uid, out _);
        await WriteSnapshotAsync(cancel);
        await SendAsync(uid, cancel);
    }

    /// <summary>Tells nginx all entries anew, after it was away.</summary>
    public async Task PutAllAsync(CancellationToken cancel)
    {
        foreach (var uid in entries.Keys)
            await SendAsync(uid, cancel);
    }

    /// <summary>What nginx has seen; null where it does not answer.</summary>
    public async Task<Activity?> ActivityAsync(CancellationToken cancel)
    {
        try
        {
            await using var answer = await nginx.GetStreamAsync("activity", cancel);
            return await JsonSerializer.DeserializeAsync(answer, ActivityJson.Default.Activity, cancel);
        }
        catch (Exception e) when (IsFault(e, cancel))
        {
            LogAway(log, e.Message);
            return null;
        }
    }

    /// <summary>Tells nginx what is known of a droid at the moment of sending: one send at a time for each, so that none overtakes a newer one.</summary>
    private async Task SendAsync(string uid, CancellationToken cancel)
    {
        var gate = sendGates[(uint)string.GetHashCode(uid, StringComparison.Ordinal) % sendGates.Length];
        await gate.WaitAsync(cancel);
        try
        {
            using var request = entries.TryGetValue(uid, out var entry)
                ? new HttpRequestMessage(HttpMethod.Put, "droids/" + uid) { Content = new StringContent(entry, new MediaTypeHeaderValue("text/plain")) }
                : new HttpRequestMessage(HttpMethod.Delete, "droids/" + uid);
            using var response = await nginx.SendAsync(request, cancel);
            if (!response.IsSuccessStatusCode)
                LogRefused(log, uid, (int)response.StatusCode);
        }
        catch (Exception e) when (IsFault(e, cancel))
        {
            LogAway(log, e.Message);
        }
        finally
        {
            gate.Release();
        }
    }

    private static bool IsFault(Exception e, CancellationToken cancel) =>
        e is HttpRequestException or JsonException or IOException || (e is TaskCanceledException && !cancel.IsCancellationRequested);

    /// <summary>Writes the snapshot a moment later: once for many droids that wake together.</summary>
    private async Task WriteSoonAsync()
    {
        if (Interlocked.Exchange(ref writing, 1) == 1)
            return;
        await Task.Delay(WriteDelay);
        Interlocked.Exchange(ref writing, 0);
        try
        {
            await WriteSnapshotAsync(CancellationToken.None);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ObjectDisposedException)
        {
            LogSnapshot(log, e.Message);
        }
    }

    private async Task WriteSnapshotAsync(CancellationToken cancel)
    {
        await snapshotGate.WaitAsync(cancel);
        try
        {
            var text = new StringBuilder();
            foreach (var (uid, entry) in entries)
                text.Append(uid).Append(' ').Append(entry).Append('\n');
            var next = settings.Nginx.Snapshot + ".next";
            await File.WriteAllTextAsync(next, text.ToString(), cancel);
            File.Move(next, settings.Nginx.Snapshot, overwrite: true);
        }
        catch (IOException e) when (DockerFault.IsDiskFull(e.Message))
        {
            // A nginx that starts meanwhile reads an older one; to leave it untold of what is done against the full disk would be worse.
            LogSnapshot(log, e.Message);
        }
        finally
        {
            snapshotGate.Release();
        }
    }

    public void Dispose()
    {
        nginx.Dispose();
        snapshotGate.Dispose();
    }

    [LoggerMessage(Level = LogLevel.Debug, Message = "The local nginx does not answer: {Fault}")]
    private static partial void LogAway(ILogger log, string fault);

    [LoggerMessage(Level = LogLevel.Error, Message = "The snapshot of the droids can't be written: {Fault}")]
    private static partial void LogSnapshot(ILogger log, string fault);

    [LoggerMessage(Level = LogLevel.Error, Message = "The local nginx refused droid {Uid} with {Status}")]
    private static partial void LogRefused(ILogger log, string uid, int status);
}
