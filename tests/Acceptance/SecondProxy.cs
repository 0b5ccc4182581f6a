using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Appoxy.Tests;

/// <summary>
/// A second routerd with a global nginx of its own beside the install's: same Postgres and Redis, else all its own. Started by hand,
/// as the run scripts of the first one do.
/// </summary>
internal sealed class SecondProxy : IAsyncDisposable
{
    public const string Name = "r2";
    private readonly Install install;
    private readonly Dictionary<string, Process> running = [];
    private readonly int consolePort = Install.FreePort();

    private SecondProxy(Install install) => this.install = install;

    public int HttpPort { get; } = Install.FreePort();

    /// <summary>Its own copies of what nginx includes, and of the templates that Appoxy ships.</summary>
    public string Share => Path.Combine(Root, "share");

    public string Overrides => Path.Combine(Root, "templates");

    public string NginxRoot => Path.Combine(Root, "nginx");

    private string Root => Path.Combine(install.Prefix, "second");

    private string Run => Path.Combine(Root, "run");

    private string Settings => Path.Combine(Root, "routerd.json");

    /// <summary>Starts both, and waits until they serve.</summary>
    /// <param name="install">The install beside which it runs.</param>
    /// <param name="maxOldMemory">Its nginx:maxOldMemory; null for the default.</param>
    public static async Task<SecondProxy> StartAsync(Install install, string? maxOldMemory = null)
    {
        var proxy = new SecondProxy(install);
        foreach (var folder in new[] { proxy.Overrides, proxy.NginxRoot, proxy.Run, Path.Combine(proxy.Root, "log") })
            Directory.CreateDirectory(folder);
        await install.RunAsync("cp", ["-rT", $"{install.Prefix}/usr/share/appoxy", proxy.Share]);
        await install.RunAsync("chgrp", ["www-data", proxy.Run]);
        await proxy.WriteSettingsAsync(maxOldMemory);
        proxy.StartRouterd();
        await Install.EventuallyAsync(() => Task.FromResult(File.Exists($"{proxy.NginxRoot}/current/nginx.conf")), TimeSpan.FromSeconds(30));
        proxy.StartNginx();
        await Install.EventuallyAsync(() => proxy.AnswersAsync("console.localhost"), TimeSpan.FromSeconds(30));
        return proxy;
    }

    private async Task WriteSettingsAsync(string? maxOldMemory)
    {
        var settings = JsonNode.Parse(await File.ReadAllTextAsync($"{install.Prefix}/etc/appoxy/routerd.json"))!;
        (settings["name"], settings["httpPort"], settings["httpsPort"]) = (Name, HttpPort, Install.FreePort());
        settings["listen"] = $"http://127.0.0.1:{consolePort}";
        // The first one has told Postgres.
        settings["servers"] = new JsonArray();
        var nginx = settings["nginx"]!;
        (nginx["root"], nginx["pidFile"], nginx["controlSocket"]) = (NginxRoot, $"{Run}/global-nginx.pid", $"{Run}/global-control.sock");
        (nginx["templates"], nginx["fragments"], nginx["lua"]) = ($"{Share}/templates", $"{Share}/nginx", $"{Share}/lua");
        (nginx["templateOverrides"], nginx["logDir"], nginx["runDir"]) = (Overrides, $"{Root}/log", Run);
        if (maxOldMemory is not null)
            nginx["maxOldMemory"] = maxOldMemory;
        nginx["snapshot"] = $"{Root}/routes.snapshot";
        await File.WriteAllTextAsync(Settings, settings.ToJsonString());
        File.SetUnixFileMode(Settings, UnixFileMode.UserRead | UnixFileMode.UserWrite);
    }

    public void StartRouterd()
    {
        var script = File.ReadAllText($"{install.Prefix}/var/lib/appoxy/services/routerd/run");
        var dotnet = script.Split("DOTNET_ROOT=")[1].Split(' ')[0];
        Start("routerd", $"HOME={Root} DOTNET_ROOT={dotnet} exec {install.Prefix}/usr/lib/appoxy/routerd/routerd --config {Settings}");
    }

    public void StartNginx()
    {
        File.Delete($"{Run}/global-control.sock");
        Start("nginx", $"exec /usr/sbin/nginx -p {NginxRoot}/current/ -c {NginxRoot}/current/nginx.conf -e {Root}/log/global-nginx.error.log "
            + $"-g 'daemon off; pid {Run}/global-nginx.pid;'");
    }

    private void Start(string name, string command)
    {
        var log = $"{Root}/log/{name}.log";
        running[name] = Process.Start(new ProcessStartInfo("/bin/sh", ["-c", $"{{ {command}; }} >>{log} 2>&1 </dev/null"])
            { WorkingDirectory = Root })!;
    }

    /// <summary>Ends <c>routerd</c> or <c>nginx</c>: by TERM, or by KILL.</summary>
    public async Task StopAsync(string name, string signal = "TERM")
    {
        if (!running.Remove(name, out var process))
            return;
        using (process)
        {
            await install.RunAsync("kill", [$"-{signal}", process.Id.ToString(CultureInfo.InvariantCulture)]);
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(20));
            await process.WaitForExitAsync(limit.Token);
        }
    }

    /// <summary>Its API, as an admin.</summary>
    public HttpClient Api()
    {
        var http = LocalHttp.For($"http://127.0.0.1:{consolePort}/", TimeSpan.FromSeconds(120));
        http.DefaultRequestHeaders.Authorization = new("Bearer", install.Token);
        return http;
    }

    /// <summary>The CLI, as an admin of this routerd.</summary>
    public Task<Ran> AppoxyAsync(params string[] arguments) =>
        install.RunAsync("env", [$"APPOXY_URL=http://127.0.0.1:{consolePort}", Path.Combine(install.Prefix, "bin/appoxy"), .. arguments]);

    /// <summary>Whether its nginx answers 2xx for a host.</summary>
    public async Task<bool> AnswersAsync(string host)
    {
        try
        {
            return (await GetAsync(host)).IsSuccessStatusCode;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }

    /// <summary>GET of its nginx with any Host.</summary>
    public async Task<HttpResponseMessage> GetAsync(string host)
    {
        using var http = LocalHttp.For($"http://127.0.0.1:{HttpPort}/", TimeSpan.FromSeconds(30));
        using var request = new HttpRequestMessage(HttpMethod.Get, "") { Headers = { Host = host } };
        return await http.SendAsync(request);
    }

    /// <summary>What its nginx's current version holds: configuration and the page for 404.</summary>
    public async Task<string> ServingAsync() => await File.ReadAllTextAsync($"{NginxRoot}/current/nginx.conf")
        + await File.ReadAllTextAsync($"{NginxRoot}/current/pages/404.html");

    /// <summary>Stops both, and leaves nothing of it.</summary>
    public async ValueTask DisposeAsync()
    {
        await StopAsync("routerd");
        await StopAsync("nginx");
        Directory.Delete(Root, recursive: true);
        await install.SqlAsync($"delete from proxies where name = '{Name}'");
    }
}
