using System.CommandLine;
using System.Net.Sockets;
using System.Text.Json;

namespace Appoxy.Cli;

/// <summary>
/// <c>appoxy doctor</c>: routerd looks at all parts; where it does not answer, and this machine has it, what can be seen from here is looked at.
/// </summary>
internal static class Doctor
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(4);

    public static Verb Define()
    {
        var verb = new Verb("doctor", "Says what is wrong, and what to do about it; exit code 1 if anything is.", "appoxy doctor", "appoxy doctor --json");
        return verb.Does(async (call, cancel) =>
        {
            IReadOnlyList<Finding> found;
            try
            {
                found = (await call.Routerd.GetAsync<Page<Finding>>("v1/doctor", cancel)).Value.Items;
            }
            catch (Unreachable e)
            {
                found = [new Finding("routerd", e.Message, "start it (provision.sh --start); its log tells why it ended"), .. await LookAroundAsync(cancel)];
            }
            if (call.Json)
                Output.Json(json => JsonSerializer.Serialize(json, [.. found], AppoxyJson.Default.ListFinding));
            else
                Output.Table(found.OrderBy(f => f.Fault is null), ("CHECK", f => f.Server is null ? f.Check : $"{f.Check} {f.Server}"),
                    ("STATE", f => f.Fault is null ? "ok" : "FAULT"), ("WHAT TO DO", f => f.Fault is null ? null : $"{f.Fault}. Fix: {f.Fix}"));
            var faults = found.Count(f => f.Fault is not null);
            if (faults > 0)
                throw new Failure(ExitCodes.Failed, $"{faults} of {found.Count} checks found a fault");
        });
    }

    /// <summary>What this machine shows without routerd; nothing where it has no install, or one that this user may not read.</summary>
    private static async Task<IReadOnlyList<Finding>> LookAroundAsync(CancellationToken cancel)
    {
        var file = Environment.GetEnvironmentVariable("APPOXY_INSTALL") ?? "/etc/appoxy/install.json";
        JsonElement install;
        try
        {
            install = JsonDocument.Parse(await File.ReadAllBytesAsync(file, cancel)).RootElement;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            return [];
        }
        var run = Path.GetDirectoryName(install.GetProperty("droidd_hook_socket").GetString())!;
        var database = new Uri(install.GetProperty("database_url").GetString()!);
        var redis = new Uri(install.GetProperty("redis").GetString()!);
        var docker = install.GetProperty("docker_host").GetString()!.Replace("unix://", "unix:", StringComparison.Ordinal);
        var found = await Task.WhenAll(
            ListensAsync("postgres", database, cancel), ListensAsync("redis", redis, cancel),
            AnswersAsync("docker", docker, "_ping", cancel),
            AnswersAsync("droidd", $"unix:{run}/droidd.sock", "server", cancel),
            AnswersAsync("global-nginx", $"unix:{run}/global-control.sock", "version", cancel),
            AnswersAsync("local-nginx", $"unix:{run}/local-control.sock", "version", cancel));
        var key = Path.Combine(Path.GetDirectoryName(file)!, "secrets.key");
        return [.. found, File.Exists(key) ? new Finding("secrets") : new Finding("secrets", $"the key file {key} is missing", "put it back from a backup"),
            .. DiskSpace.Look(run, "/", "/var/lib")];
    }

    private static async Task<Finding> AnswersAsync(string what, string address, string path, CancellationToken cancel)
    {
        try
        {
            using var http = LocalHttp.For(address, Limit);
            using var response = await http.GetAsync(path, cancel);
            return new Finding(what);
        }
        catch (Exception e) when (e is HttpRequestException or SocketException || (e is OperationCanceledException && !cancel.IsCancellationRequested))
        {
            return Down(what, e.Message);
        }
    }

    private static async Task<Finding> ListensAsync(string what, Uri at, CancellationToken cancel)
    {
        using var client = new TcpClient();
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(Limit);
        try
        {
            await client.ConnectAsync(at.Host, at.Port, bound.Token);
            return new Finding(what);
        }
        catch (Exception e) when (e is SocketException || (e is OperationCanceledException && !cancel.IsCancellationRequested))
        {
            return Down(what, e.Message);
        }
    }

    private static Finding Down(string what, string words) =>
        new(what, $"it does not answer ({words})", "start it (provision.sh --start); its log tells why it ended");
}
