using System.Diagnostics;
using System.Net;
using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.Extensions.Logging;

namespace Appoxy.Nginx;

/// <summary>
/// One nginx's configuration: rendered from templates, tested by nginx itself in a folder apart, switched to by an atomic rename,
/// reloaded and probed. Whatever goes wrong, the last good version is what serves and what lies on disk.
/// </summary>
/// <param name="name"><c>global</c> or <c>local</c>; its template is <c>{name}.conf.sbn</c>.</param>
/// <param name="settings">The nginx.</param>
/// <param name="listener">Where an nginx of such settings takes requests: <c>http://127.0.0.1:80/</c> or <c>unix:/path</c>.</param>
/// <param name="model">
/// Makes the templates' model for a version, which the configuration shows at its control socket, and for this nginx or one that
/// is but tested, whose paths are others.
/// </param>
/// <param name="log">Where each outcome is told.</param>
/// <param name="time">The clock.</param>
public sealed partial class NginxConfig(
    string name, NginxSettings settings, Func<NginxSettings, string> listener, Func<string, NginxSettings, object> model, ILogger log,
    TimeProvider time)
{
    private const string Link = "current";

    private const int ProbeVisits = 6;
    private static readonly TimeSpan ProbePause = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan ProbeTimeout = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan RetryAfter = TimeSpan.FromSeconds(10);

    /// <summary>How long a passed test holds: from a try to the activation that follows it.</summary>
    private static readonly TimeSpan PassHolds = TimeSpan.FromSeconds(30);

    private readonly HttpClient control = LocalHttp.For("unix:" + settings.ControlSocket, TimeSpan.FromSeconds(2));
    private readonly HttpClient visitor = LocalHttp.For(listener(settings), TimeSpan.FromSeconds(5));
    private readonly NginxTest test = new(name, settings, listener);
    private readonly SemaphoreSlim gate = new(1, 1);
    private string? lastTried;
    private string? lastFault;
    private DateTimeOffset triedAt;
    private (string Version, TemplateError Error)? failedProbe;
    private (string Version, DateTimeOffset At)? passed;
    private Serving? serving;

    /// <summary>What became of the newest templates.</summary>
    public TemplateStatus Status { get; private set; } =
        new(name, CurrentVersion(settings), null, time.GetUtcNow());

    private string Current => Path.Combine(settings.Root, Link);

    /// <summary>
    /// Brings nginx to what the templates say; does nothing if it is there already. Never throws for a fault in a template: the
    /// fault is in the answer, and in <see cref="Status"/>.
    /// </summary>
    /// <param name="cancel">Ends the attempt between two steps; what serves stays whole.</param>
    /// <exception cref="IOException">The disk or a folder fails.</exception>
    public async Task<TemplateStatus> ApplyAsync(CancellationToken cancel)
    {
        await gate.WaitAsync(cancel);
        try
        {
            return await ApplyNowAsync(cancel);
        }
        finally
        {
            gate.Release();
        }
    }

    /// <summary>Tells what a template would become and what nginx says to it; changes nothing.</summary>
    /// <param name="template">The template's file name.</param>
    /// <param name="text">Its text; null for the shipped one.</param>
    /// <param name="cancel">Ends the test.</param>
    /// <exception cref="IOException">The disk or a folder fails.</exception>
    public async Task<TemplatePreview> TryAsync(string template, string? text, CancellationToken cancel)
    {
        await gate.WaitAsync(cancel);
        try
        {
            var folder = (await ReadAsync(cancel)).With(template, text);
            // The version that serves, so that the diff shows what the template changes and nothing else.
            var version = Status.Version ?? "";
            var rendered = RenderedConfig.Of(folder, name, model(version, settings));
            var diff = await DiffAsync(rendered, cancel);
            return new TemplatePreview(name, rendered.TextOf(template), diff,
                await FaultAsync(folder, RenderedConfig.Of(folder, name, model("", settings)).Hash(), cancel));
        }
        catch (TemplateException fault)
        {
            return new TemplatePreview(name, "", "", fault.Error);
        }
        finally
        {
            gate.Release();
        }
    }

    /// <summary>
    /// Where the first match in what serves came from; null where there is none, or where what serves was rendered before this
    /// daemon's start and the templates have been refused since.
    /// </summary>
    public (Match Match, string Template, int Line, string? Override)? Find(Regex sought)
    {
        if (serving is not { } now || sought.Match(now.Config.Text) is not { Success: true } match)
            return null;
        var (template, line) = now.Config.Origins[now.Config.Text.AsSpan(0, match.Index).Count('\n')];
        return (match, template, line, now.Folder.Override(template));
    }

    private Task<TemplateFolder> ReadAsync(CancellationToken cancel) =>
        TemplateFolder.ReadAsync(settings.Templates, settings.TemplateOverrides, cancel);

    private async Task<TemplateStatus> ApplyNowAsync(CancellationToken cancel)
    {
        var folder = await ReadAsync(cancel);
        var unversioned = model("", settings);
        var input = folder.Hash + JsonSerializer.Serialize(unversioned, unversioned.GetType());
        if (input == lastTried && (Status.Error is null || time.GetUtcNow() - triedAt < RetryAfter))
            return Status;
        string? version = null;
        try
        {
            version = RenderedConfig.Of(folder, name, unversioned).Hash();
            if (version != Status.Version)
            {
                await StageAsync(folder, version, cancel);
                await SwitchAsync(version, cancel);
            }
            else if (await ServingAsync(cancel) is { } serving && serving != version)
            {
                await ReloadAsync(version, cancel);
            }
            if (version != Status.Version || Status.Error is not null)
                LogApplied(log, name, version);
            serving = new Serving(folder, RenderedConfig.Of(folder, name, model(version, settings)).Config);
            Status = new TemplateStatus(name, version, null, time.GetUtcNow());
            lastFault = null;
        }
        catch (TemplateException fault)
        {
            Status = Status with { Error = fault.Error, At = time.GetUtcNow() };
            if (lastFault != fault.Message)
                LogRefused(log, name, fault.Message, Status.Version);
            lastFault = fault.Message;
        }
        (lastTried, triedAt) = (input, time.GetUtcNow());
        Prune(version);
        return Status;
    }

    private static string? CurrentVersion(NginxSettings settings) =>
        new DirectoryInfo(Path.Combine(settings.Root, Link)).LinkTarget is { } target ? Path.GetFileName(target) : null;

    private async Task<string> DiffAsync(RenderedConfig rendered, CancellationToken cancel)
    {
        var diffs = "";
        foreach (var (file, text) in rendered.Files)
        {
            var serving = Path.Combine(Current, file);
            var before = File.Exists(serving) ? await File.ReadAllTextAsync(serving, cancel) : "";
            diffs += await UnifiedDiff.OfAsync(($"serving/{file}", before), ($"rendered/{file}", text), cancel);
        }
        return diffs;
    }

    private async Task StageAsync(TemplateFolder folder, string version, CancellationToken cancel)
    {
        if (failedProbe is { } failed && failed.Version == version)
            throw new TemplateException(failed.Error);
        if (await FaultAsync(folder, version, cancel) is { } fault)
            throw new TemplateException(fault);
        await RenderedConfig.Of(folder, name, model(version, settings))
            .WriteAsync(Path.Combine(settings.Root, "versions", version), cancel);
    }

    /// <summary>Tests a version, unless that was done just now.</summary>
    private async Task<TemplateError?> FaultAsync(TemplateFolder folder, string version, CancellationToken cancel)
    {
        if (passed is { } pass && pass.Version == version && time.GetUtcNow() - pass.At < PassHolds)
            return null;
        var fault = await test.FaultAsync(nginx => RenderedConfig.Of(folder, name, model(version, nginx)), cancel);
        passed = fault is null ? (version, time.GetUtcNow()) : null;
        return fault;
    }

    private async Task SwitchAsync(string version, CancellationToken cancel)
    {
        var before = Status.Version;
        Point(version);
        try
        {
            await ReloadAsync(version, cancel);
        }
        catch (TemplateException) when (before is not null)
        {
            Point(before);
            if (NginxMaster.Reload(settings.PidFile))
                await TakesAsync(before, cancel);
            throw;
        }
    }

    private void Point(string version)
    {
        var next = Current + ".next";
        File.Delete(next);
        File.CreateSymbolicLink(next, Path.Combine("versions", version));
        Posix.Replace(next, Current);
    }

    /// <summary>Reloads nginx and waits until new workers serve this version; where nginx does not run, there is nothing to do.</summary>
    private async Task ReloadAsync(string version, CancellationToken cancel)
    {
        var before = NginxMaster.Workers(settings.PidFile);
        if (!NginxMaster.Reload(settings.PidFile))
            return;
        if (!await TakesAsync(version, cancel))
            throw new TemplateException(new TemplateError($"{name}.conf.sbn", 0,
                $"nginx did not take the new configuration within {ProbeTimeout.TotalSeconds} s; its error log says why"));
        if (await ProbeAsync(await LeftAsync(before, cancel) ? TimeSpan.Zero : ProbePause, cancel) is not { } fault)
        {
            if (NginxMaster.EndOldest(settings.PidFile, MostOldMemory) is > 0 and var ended)
                LogEnded(log, name, ended);
            return;
        }
        // Remembered, since a second try would fail visitors again.
        var error = new TemplateError($"{name}.conf.sbn", 0, fault);
        failedProbe = (version, error);
        throw new TemplateException(error);
    }

    private long MostOldMemory => Quantities.TryParseBytes(settings.MaxOldMemory, out var bytes) ? bytes
        : GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 4;

    /// <summary>Whether within the time-out a worker answers with this version.</summary>
    private async Task<bool> TakesAsync(string version, CancellationToken cancel)
    {
        var waited = Stopwatch.StartNew();
        while (waited.Elapsed < ProbeTimeout)
        {
            if (await ServingAsync(cancel) == version)
                return true;
            await Task.Delay(TimeSpan.FromMilliseconds(20), time, cancel);
        }
        return false;
    }

    /// <summary>
    /// Waits until the workers of before take no more requests. nginx gives the new ones 100 ms before it tells the old ones to end,
    /// and until then either may answer. False where that can't be seen: then the probe takes longer than that.
    /// </summary>
    private async Task<bool> LeftAsync(HashSet<int>? before, CancellationToken cancel)
    {
        var waited = Stopwatch.StartNew();
        while (before is not null && waited.Elapsed < ProbeTimeout && NginxMaster.Workers(settings.PidFile) is { } now)
        {
            if (!now.Overlaps(before))
                return true;
            await Task.Delay(TimeSpan.FromMilliseconds(10), time, cancel);
        }
        return false;
    }

    /// <summary>
    /// Visits nginx once more where it truly serves, with its own user, files and Redis: what is wrong; null if nothing.
    /// </summary>
    private async Task<string?> ProbeAsync(TimeSpan pause, CancellationToken cancel)
    {
        var (waited, answers, fault) = (Stopwatch.StartNew(), 0, "");
        while (answers < ProbeVisits)
        {
            if (waited.Elapsed > ProbeTimeout)
                return $"nginx no longer answers visitors at {listener(settings)}: {fault}";
            try
            {
                if (await NginxTest.VisitAsync(visitor, cancel) == HttpStatusCode.InternalServerError)
                    return $"nginx answered a visitor of {NginxTest.ProbeHost} with 500; its error log says why";
                answers++;
            }
            catch (Exception e) when (e is HttpRequestException || (e is TaskCanceledException && !cancel.IsCancellationRequested))
            {
                (fault, pause) = (e.Message, ProbePause);
            }
            await Task.Delay(pause, time, cancel);
        }
        return null;
    }

    /// <summary>The version that nginx says it serves; null where it does not answer.</summary>
    private async Task<string?> ServingAsync(CancellationToken cancel)
    {
        try
        {
            // A kept connection would be answered by an old worker for as long as that has it.
            using var request = new HttpRequestMessage(HttpMethod.Get, "version") { Headers = { ConnectionClose = true } };
            using var answer = (await control.SendAsync(request, cancel)).EnsureSuccessStatusCode();
            return (await answer.Content.ReadAsStringAsync(cancel)).Trim();
        }
        catch (Exception e) when (e is HttpRequestException || (e is TaskCanceledException && !cancel.IsCancellationRequested))
        {
            LogProbe(log, name, e.Message);
            return null;
        }
    }

    /// <summary>Keeps the version that serves, the newest tried one and the three before.</summary>
    private void Prune(string? tried)
    {
        var old = new DirectoryInfo(Path.Combine(settings.Root, "versions"));
        if (!old.Exists)
            return;
        test.Sweep();
        foreach (var version in old.EnumerateDirectories().Where(d => d.Name != Status.Version && d.Name != tried)
                     .OrderByDescending(d => d.LastWriteTimeUtc).Skip(3))
            version.Delete(recursive: true);
    }

    /// <summary>What serves, with the templates that it came from.</summary>
    private sealed record Serving(TemplateFolder Folder, RenderedTemplate Config);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Nginx} nginx serves configuration {Version}")]
    private static partial void LogApplied(ILogger log, string nginx, string version);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Nginx} nginx keeps {Version}: {Fault}")]
    private static partial void LogRefused(ILogger log, string nginx, string fault, string? version);

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "{Nginx} nginx: {Count} old workers held too much memory and were ended, with the websockets that were still open there")]
    private static partial void LogEnded(ILogger log, string nginx, int count);

    [LoggerMessage(Level = LogLevel.Debug, Message = "{Nginx} nginx's control socket: {Fault}")]
    private static partial void LogProbe(ILogger log, string nginx, string fault);
}
