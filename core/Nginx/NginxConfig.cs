using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using CliWrap;
using CliWrap.Buffered;
using Microsoft.Extensions.Logging;

namespace Appoxy.Nginx;

/// <summary>
/// One nginx's configuration: rendered from templates into a staging folder, tested by nginx itself, switched to by an atomic
/// rename, reloaded and probed. Whatever goes wrong, the last good version is what serves and what lies on disk.
/// </summary>
/// <param name="name"><c>global</c> or <c>local</c>; its template is <c>{name}.conf.sbn</c>.</param>
/// <param name="settings">The nginx.</param>
/// <param name="log">Where each outcome is told.</param>
/// <param name="time">The clock.</param>
public sealed partial class NginxConfig(string name, NginxSettings settings, ILogger log, TimeProvider time)
{
    private const string Link = "current";
    private static readonly TimeSpan TestTimeout = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan ProbeTimeout = TimeSpan.FromSeconds(10);
    private static readonly (int Code, string File, string Title, string Message, int Refresh)[] ErrorPages =
    [
        (404, "404.html", "There is no such site here", "The address may be mistyped, or the site has moved.", 0),
        (502, "502.html", "The app did not answer", "It closed the connection, or could not be reached. Please try again.", 0),
        (503, "503.html", "Not available right now", "The app could not be reached. Please try again in a moment.", 5),
        (503, "waking.html", "Waking up", "The app was asleep and is starting.", 2),
    ];

    private readonly HttpClient control = LocalHttp.For("unix:" + settings.ControlSocket, TimeSpan.FromSeconds(2));
    private static readonly TimeSpan RetryAfter = TimeSpan.FromSeconds(30);
    private string? lastTried;
    private string? lastFault;
    private DateTimeOffset triedAt;

    /// <summary>What became of the newest templates.</summary>
    public TemplateStatus Status { get; private set; } =
        new(name, CurrentVersion(settings), null, time.GetUtcNow());

    private string Current => Path.Combine(settings.Root, Link);

    /// <summary>
    /// Brings nginx to what the templates say for <paramref name="model"/>; does nothing if it is there already. Never throws for
    /// a fault in a template: the fault is in the answer, and in <see cref="Status"/>.
    /// </summary>
    /// <param name="model">Makes the model for a version, which the configuration shows at its control socket.</param>
    /// <param name="cancel">Ends the attempt between two steps; what serves stays whole.</param>
    /// <exception cref="IOException">The disk or a folder fails.</exception>
    public async Task<TemplateStatus> ApplyAsync(Func<string, object> model, CancellationToken cancel)
    {
        var folder = await TemplateFolder.ReadAsync(settings.Templates, settings.TemplateOverrides, cancel);
        var input = folder.Hash + JsonSerializer.Serialize(model(""), model("").GetType());
        if (input == lastTried && (Status.Error is null || time.GetUtcNow() - triedAt < RetryAfter))
            return Status;
        string? version = null;
        try
        {
            version = Rendered.Of(folder, name, model("")).Hash();
            if (version != Status.Version)
            {
                await StageAsync(Rendered.Of(folder, name, model(version)), version, cancel);
                await SwitchAsync(version, cancel);
            }
            else if (await ServingAsync(cancel) is { } serving && serving != version)
            {
                await ReloadAsync(version, cancel);
            }
            if (version != Status.Version || Status.Error is not null)
                LogApplied(log, name, version);
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

    /// <summary>All that is rendered for one nginx.</summary>
    private sealed record Rendered(RenderedTemplate Config, IReadOnlyList<(string File, string Text)> Pages)
    {
        public static Rendered Of(TemplateFolder folder, string name, object model) => new(
            folder.Render($"{name}.conf.sbn", model),
            [.. ErrorPages.Select(p => (p.File, folder.Render("error-page.html.sbn",
                new { code = p.Code, title = p.Title, message = p.Message, refresh = p.Refresh }).Text))]);

        /// <summary>The version's name: what renders to the same is the same, so that no nginx is reloaded for a template that is not its own.</summary>
        public string Hash()
        {
            using var sha = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            foreach (var text in Pages.Select(p => p.Text).Prepend(Config.Text))
                sha.AppendData(Encoding.UTF8.GetBytes(text + "\0"));
            return Convert.ToHexStringLower(sha.GetHashAndReset())[..12];
        }
    }

    private static string? CurrentVersion(NginxSettings settings) =>
        new DirectoryInfo(Path.Combine(settings.Root, Link)).LinkTarget is { } target ? Path.GetFileName(target) : null;

    private async Task StageAsync(Rendered rendered, string version, CancellationToken cancel)
    {
        var stage = Path.Combine(settings.Root, "versions", version);
        if (Directory.Exists(stage))
            Directory.Delete(stage, recursive: true);
        Directory.CreateDirectory(Path.Combine(stage, "pages"));
        await File.WriteAllTextAsync(Path.Combine(stage, "nginx.conf"), rendered.Config.Text, cancel);
        foreach (var (file, text) in rendered.Pages)
            await File.WriteAllTextAsync(Path.Combine(stage, "pages", file), text, cancel);
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        timeout.CancelAfter(TestTimeout);
        var test = await Cli.Wrap(settings.Binary)
            .WithArguments(["-t", "-q", "-p", stage + "/", "-c", Path.Combine(stage, "nginx.conf"), "-e", "stderr"])
            .WithValidation(CommandResultValidation.None)
            .ExecuteBufferedAsync(timeout.Token);
        if (test.ExitCode != 0)
            throw new TemplateException(Explain(test.StandardError, stage, rendered.Config));
    }

    /// <summary>Turns nginx's complaint about a line of its input into one about the template's line.</summary>
    private TemplateError Explain(string output, string stage, RenderedTemplate config)
    {
        var line = output.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
            .LastOrDefault(l => l.Contains("[emerg]", StringComparison.Ordinal) || l.Contains("[error]", StringComparison.Ordinal))
            ?? output.Trim();
        var place = Place().Match(line);
        var message = Place().Replace(line, "").Trim();
        var rendered = place.Success && place.Groups[1].Value == Path.Combine(stage, "nginx.conf")
            ? int.Parse(place.Groups[2].ValueSpan, CultureInfo.InvariantCulture)
            : 0;
        if (rendered < 1 || rendered > config.Origins.Count)
            return new TemplateError($"{name}.conf.sbn", 0, line);
        var (template, at) = config.Origins[rendered - 1];
        return new TemplateError(template, at, message);
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
            Signal();
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

    /// <summary>Reloads nginx and waits until a new worker answers with this version; where nginx does not run, there is nothing to do.</summary>
    private async Task ReloadAsync(string version, CancellationToken cancel)
    {
        if (!Signal())
            return;
        var deadline = Stopwatch.StartNew();
        while (deadline.Elapsed < ProbeTimeout)
        {
            if (await ServingAsync(cancel) == version)
                return;
            await Task.Delay(TimeSpan.FromMilliseconds(50), time, cancel);
        }
        throw new TemplateException(new TemplateError($"{name}.conf.sbn", 0,
            $"nginx did not take the new configuration within {ProbeTimeout.TotalSeconds} s; its error log says why"));
    }

    /// <summary>The version that nginx says it serves; null where it does not answer.</summary>
    private async Task<string?> ServingAsync(CancellationToken cancel)
    {
        try
        {
            return (await control.GetStringAsync("version", cancel)).Trim();
        }
        catch (Exception e) when (e is HttpRequestException || (e is TaskCanceledException && !cancel.IsCancellationRequested))
        {
            LogProbe(log, name, e.Message);
            return null;
        }
    }

    /// <summary>Sends the master SIGHUP; false if none runs.</summary>
    private bool Signal()
    {
        if (!File.Exists(settings.PidFile)
            || !int.TryParse(File.ReadAllText(settings.PidFile), CultureInfo.InvariantCulture, out var pid)
            || !File.Exists($"/proc/{pid}/cmdline")
            || !File.ReadAllText($"/proc/{pid}/cmdline").Contains("nginx", StringComparison.Ordinal))
            return false;
        return Posix.Hup(pid);
    }

    /// <summary>Keeps the version that serves, the newest tried one and the three before.</summary>
    private void Prune(string? tried)
    {
        var old = new DirectoryInfo(Path.Combine(settings.Root, "versions"));
        if (!old.Exists)
            return;
        foreach (var version in old.EnumerateDirectories().Where(d => d.Name != Status.Version && d.Name != tried)
                     .OrderByDescending(d => d.LastWriteTimeUtc).Skip(3))
            version.Delete(recursive: true);
    }

    [GeneratedRegex(@"\s+in (\S+):(\d+)$")]
    private static partial Regex Place();

    [LoggerMessage(Level = LogLevel.Information, Message = "{Nginx} nginx serves configuration {Version}")]
    private static partial void LogApplied(ILogger log, string nginx, string version);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Nginx} nginx keeps {Version}: {Fault}")]
    private static partial void LogRefused(ILogger log, string nginx, string fault, string? version);

    [LoggerMessage(Level = LogLevel.Debug, Message = "{Nginx} nginx's control socket: {Fault}")]
    private static partial void LogProbe(ILogger log, string nginx, string fault);
}
