using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;
using CliWrap;
using CliWrap.Buffered;

namespace Appoxy.Nginx;

/// <summary>
/// Has nginx itself test a configuration: by <c>nginx -t</c>, and, since that runs no Lua, by an nginx that runs for a moment and is
/// visited once. Both in a folder of their own, and as a user who may read no secret and write nothing but that folder: pid file,
/// logs, temporary files and unix sockets of the test lie there, and what serves is not touched.
/// </summary>
/// <param name="name"><c>global</c> or <c>local</c>.</param>
/// <param name="settings">The nginx.</param>
/// <param name="listener">Where an nginx of such settings takes requests.</param>
internal sealed partial class NginxTest(string name, NginxSettings settings, Func<NginxSettings, string> listener)
{
    /// <summary>A host that no app can have: it takes a visitor's way through the Lua code, and is not found.</summary>
    public const string ProbeHost = "probe.invalid";

    private const string Prefix = "try-";

    /// <summary>Debian's nobody and nogroup. Not www-data: the workers are its, and the folder of the sockets is open to it.</summary>
    private const int Nobody = 65534;
    private const int LimitSeconds = 12;

    /// <summary>What is wrong with a configuration; null if nothing.</summary>
    /// <param name="render">Renders it for an nginx with other paths and another port than the one that serves.</param>
    /// <param name="cancel">Ends the test.</param>
    /// <exception cref="TemplateException">It does not render.</exception>
    public async Task<TemplateError?> FaultAsync(Func<NginxSettings, RenderedConfig> render, CancellationToken cancel)
    {
        // Short, as the path of a unix socket ends at 107 characters.
        var stage = Path.Combine(settings.Root, Prefix + Path.GetRandomFileName()[..6]);
        var writable = Path.Combine(stage, "w");
        var within = settings.Within(writable, FreePort());
        var rendered = render(within);
        try
        {
            await rendered.WriteAsync(stage, cancel);
            Directory.CreateDirectory(writable);
            if (Environment.IsPrivilegedProcess)
                Posix.Give(writable, Nobody);
            return await CheckAsync(stage, within, rendered.Config, cancel) ?? await RehearseAsync(stage, within, rendered.Config, cancel);
        }
        finally
        {
            if (Directory.Exists(stage))
                Directory.Delete(stage, recursive: true);
        }
    }

    /// <summary>Removes what tests left that were killed; none may run.</summary>
    public void Sweep()
    {
        foreach (var stage in Directory.EnumerateDirectories(settings.Root, Prefix + "*"))
            Directory.Delete(stage, recursive: true);
    }

    private async Task<TemplateError?> CheckAsync(string stage, NginxSettings within, RenderedTemplate config, CancellationToken cancel)
    {
        var ran = await Nginx(stage, within, "", "-t", "-q").ExecuteBufferedAsync(cancel);
        return ran.ExitCode == 0 ? null : Explain(ran.StandardError, stage, config) ?? Fault($"nginx -t ended with {ran.ExitCode}");
    }

    /// <summary>Runs it in one process, which nothing is left of when it is killed, until it has answered a visitor.</summary>
    private async Task<TemplateError?> RehearseAsync(string stage, NginxSettings within, RenderedTemplate config, CancellationToken cancel)
    {
        var errors = new StringBuilder();
        using var visitor = LocalHttp.For(listener(within), TimeSpan.FromSeconds(5));
        using var answered = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        var running = Nginx(stage, within, " daemon off; master_process off;").WithStandardErrorPipe(PipeTarget.ToStringBuilder(errors))
            .ExecuteAsync(CancellationToken.None, answered.Token).Task;
        HttpStatusCode? status = null;
        while (status is null && !running.IsCompleted)
        {
            try
            {
                status = await VisitAsync(visitor, cancel);
            }
            catch (Exception e) when (e is HttpRequestException || (e is TaskCanceledException && !cancel.IsCancellationRequested))
            {
                await Task.Delay(TimeSpan.FromMilliseconds(20), cancel);
            }
        }
        await answered.CancelAsync();
        await ((Task)running).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (status is not null and not HttpStatusCode.InternalServerError)
            return null;
        foreach (var log in Directory.EnumerateFiles(within.LogDir, "*error.log"))
            errors.Append(await File.ReadAllTextAsync(log, cancel));
        var words = errors.ToString();
        // A port that the template names itself is held by the nginx that serves: then only the probe after the switch can tell.
        if (status is null && words.Contains("(98: Address already in use)", StringComparison.Ordinal))
            return null;
        return Explain(words, stage, config)
            ?? Fault(status is null ? $"nginx did not answer at its HTTP port or socket within {LimitSeconds} s" : "nginx answered a visitor with 500");
    }

    /// <summary>What nginx answers to a visitor of an unknown host. Not 404 alone is right: without Redis it is 503.</summary>
    public static async Task<HttpStatusCode> VisitAsync(HttpClient visitor, CancellationToken cancel)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, "") { Headers = { Host = ProbeHost, ConnectionClose = true } };
        using var response = await visitor.SendAsync(request, cancel);
        return response.StatusCode;
    }

    private Command Nginx(string stage, NginxSettings within, string globals, params string[] options)
    {
        // As in the run script: the pid file is no template's affair, since without it nginx could not be told to go back.
        string[] nginx = [settings.Binary, "-p", stage + "/", "-c", Path.Combine(stage, RenderedConfig.ConfigFile), "-e", "stderr",
            "-g", $"pid {within.PidFile};{globals}", .. options];
        // It binds the ports, which may be in use, but must not be forbidden: hence the one capability.
        string[] unprivileged = Environment.IsPrivilegedProcess
            ? ["/usr/bin/setpriv", $"--reuid={Nobody}", $"--regid={Nobody}", "--clear-groups", "--no-new-privs", "--reset-env",
                "--inh-caps=-all,+net_bind_service", "--ambient-caps=-all,+net_bind_service", "--bounding-set=-all,+net_bind_service", "--"]
            : [];
        // Ends it even if this daemon is killed meanwhile.
        return Cli.Wrap("/usr/bin/timeout").WithArguments(["-s", "KILL", $"{LimitSeconds}", .. unprivileged, .. nginx])
            .WithValidation(CommandResultValidation.None);
    }

    private TemplateError Fault(string message) => new($"{name}.conf.sbn", 0, message);

    /// <summary>Turns nginx's complaint about a line of its input, or of Lua code in it, into one about the template's line.</summary>
    private TemplateError? Explain(string output, string stage, RenderedTemplate config)
    {
        var lines = output.Split('\n', StringSplitOptions.TrimEntries).Where(l => Stamp().IsMatch(l)).Select(l => Stamp().Replace(l, "")).ToList();
        if ((lines.FindLast(LuaPlace().IsMatch) ?? lines.LastOrDefault()) is not { } line)
            return null;
        var rendered = 0;
        if (Place().Match(line) is { Success: true } place && place.Groups[1].Value == Path.Combine(stage, RenderedConfig.ConfigFile))
            (rendered, line) = (Number(place.Groups[2]), Place().Replace(line, ""));
        else if (LuaPlace().Match(line) is { Success: true } lua)
            rendered = Number(lua.Groups[1]) + Number(lua.Groups[2]) - 1;
        if (rendered < 1 || rendered > config.Origins.Count)
            return Fault(line);
        var (template, at) = config.Origins[rendered - 1];
        return new TemplateError(template, at, line.Trim());

        static int Number(Group digits) => int.Parse(digits.ValueSpan, CultureInfo.InvariantCulture);
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Any, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    /// <summary>What nginx writes before its words: the time, the level and its pid, and for a request its number.</summary>
    [GeneratedRegex(@"^.*?\[(?:emerg|error)\] (?:\d+#\d+: )?(?:\*\d+ )?")]
    private static partial Regex Stamp();

    [GeneratedRegex(@"\s+in (\S+):(\d+)$")]
    private static partial Regex Place();

    /// <summary>Where a block of Lua begins in nginx.conf, and the line within.</summary>
    [GeneratedRegex(@"\(nginx\.conf:(\d{1,6})\):(\d{1,6})\b")]
    private static partial Regex LuaPlace();
}
