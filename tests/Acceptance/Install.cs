using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Text.Json;
using CliWrap;
using CliWrap.Buffered;

namespace Appoxy.Tests;

/// <summary>What a command did.</summary>
public sealed record Ran(int ExitCode, string Output, string Error)
{
    public override string ToString() => $"exit {ExitCode}\n{Output}\n{Error}";
}

/// <summary>
/// A whole Appoxy on this machine, set up by provision.sh below a temporary prefix on free ports: real Postgres, Redis, Docker
/// and nginx. Made once for all tests that need it, and uninstalled after them.
/// </summary>
public sealed class Install : IAsyncLifetime
{
    // On a bare machine the first one installs packages, builds and makes base images for all.
    private static readonly SemaphoreSlim OneAtATime = new(1, 1);
    private static bool isBuilt;
    private JsonElement installed;

    /// <summary>The repository of the app <see cref="Shop"/>, once it is deployed here.</summary>
    public GitRepository? ShopRepository { get; set; }

    /// <summary>What the deployment of the app <see cref="Tenant"/> printed, once it is deployed here.</summary>
    public string? TenantLog { get; set; }

    public string Repository { get; } = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(Here())!, "../.."));

    /// <summary>Where it is; one that was kept there is brought up to date.</summary>
    public string Prefix { get; init; } = Path.Combine("/tmp", "appoxy-test-" + Path.GetRandomFileName()[..6]);

    public int HttpPort { get; } = FreePort();

    public int ConsolePort { get; } = FreePort();

    public string Token { get; private set; } = "";

    /// <summary>How long the first provision.sh took.</summary>
    public TimeSpan FirstRun { get; private set; }

    /// <summary>What the first provision.sh printed.</summary>
    public string FirstOutput { get; private set; } = "";

    /// <summary>Whether the sample app is deployed too.</summary>
    public bool Sample { get; init; } = true;

    /// <summary>Its name as a droid-server.</summary>
    public string ServerName { get; init; } = "ds1";

    private string[] Arguments => ["--prefix", Prefix, "--http-port", $"{HttpPort}", "--https-port", $"{FreePort()}",
        "--console-port", $"{ConsolePort}", "--name", ServerName, Sample ? "--sample" : "--no-sample"];

    public async Task InitializeAsync()
    {
        await BaseImages.WriteSettingsAsync(this);
        await OneAtATime.WaitAsync();
        try
        {
            // Only the first of a run shows how long it takes from nothing.
            if (isBuilt && !Directory.Exists(Prefix + "/usr/lib/appoxy"))
                await BaseImages.TakeBuiltAsync(this);
            var start = DateTimeOffset.UtcNow;
            var ran = await ProvisionAsync(Arguments);
            FirstRun = DateTimeOffset.UtcNow - start;
            FirstOutput = ran.Output;
            Assert.True(ran.ExitCode == 0, ran.ToString());
            if (!isBuilt)
                await BaseImages.KeepBuiltAsync(this);
            isBuilt = true;
            ReadInstall();
            Token = (await File.ReadAllTextAsync(Installed("token_file"))).Trim();
            if (Sample)
                await BaseImages.LoadAsync(this);
        }
        finally
        {
            OneAtATime.Release();
        }
    }

    public async Task DisposeAsync()
    {
        if (Environment.GetEnvironmentVariable("APPOXY_TEST_KEEP") is null)
            await ProvisionAsync("--prefix", Prefix, "--uninstall");
    }

    public Task<Ran> ProvisionAsync(params string[] arguments) => RunAsync(Path.Combine(Repository, "provision.sh"), arguments);

    /// <summary>A value of <c>install.json</c>.</summary>
    public string Installed(string key) => installed.GetProperty(key).GetString()!;

    /// <summary>The process id that <c>install.json</c> tells now.</summary>
    public int Pid(string service)
    {
        ReadInstall();
        return installed.GetProperty("pids").GetProperty(service).GetInt32();
    }

    private void ReadInstall() =>
        installed = JsonDocument.Parse(File.ReadAllText(Path.Combine(Prefix, "etc/appoxy/install.json"))).RootElement.Clone();

    /// <summary>The CLI, as an admin.</summary>
    public Task<Ran> AppoxyAsync(params string[] arguments) => RunAsync(Path.Combine(Prefix, "bin/appoxy"), arguments);

    /// <summary>The CLI, which must succeed; its output.</summary>
    public async Task<string> MustAsync(params string[] arguments)
    {
        var ran = await AppoxyAsync(arguments);
        Assert.True(ran.ExitCode == 0, $"appoxy {string.Join(' ', arguments)}: {ran}");
        return ran.Output;
    }

    public Task<Ran> DockerAsync(params string[] arguments) => RunAsync("docker", arguments);

    public async Task<Ran> RunAsync(string command, string[] arguments, TimeSpan? limit = null)
    {
        using var timeout = new CancellationTokenSource(limit ?? TimeSpan.FromMinutes(10));
        var ran = await Command(command, arguments).WithValidation(CommandResultValidation.None).ExecuteBufferedAsync(timeout.Token);
        return new Ran(ran.ExitCode, ran.StandardOutput, ran.StandardError);
    }

    public Command Command(string command, params string[] arguments) => Cli.Wrap(command).WithArguments(arguments)
        .WithEnvironmentVariables(env => env
            .Set("APPOXY_URL", $"http://127.0.0.1:{ConsolePort}").Set("APPOXY_TOKEN", Token)
            .Set("DOCKER_HOST", $"unix://{Prefix}/run/appoxy/docker.sock"));

    /// <summary>An HTTP client for a site, through the global nginx.</summary>
    public HttpClient Site(string host) => LocalHttp.For($"http://{host}:{HttpPort}/", TimeSpan.FromSeconds(90));

    /// <summary>GET through the global nginx with any Host.</summary>
    public async Task<(HttpStatusCode Status, string Body, HttpResponseMessage Response)> GetAsync(string host, string path = "/")
    {
        using var http = LocalHttp.For($"http://127.0.0.1:{HttpPort}/", TimeSpan.FromSeconds(90));
        using var request = new HttpRequestMessage(HttpMethod.Get, path) { Headers = { Host = host } };
        var response = await http.SendAsync(request);
        return (response.StatusCode, await response.Content.ReadAsStringAsync(), response);
    }

    /// <summary>The API, as an admin, at routerd's own port.</summary>
    public HttpClient Api()
    {
        var http = LocalHttp.For($"http://127.0.0.1:{ConsolePort}/", TimeSpan.FromSeconds(60));
        http.DefaultRequestHeaders.Authorization = new("Bearer", Token);
        return http;
    }

    /// <summary>Stops or starts one service by its supervisor: <c>down</c> or <c>up</c>.</summary>
    public async Task ServiceAsync(string service, string verb)
    {
        var ran = await RunAsync("sv", ["-w", "20", verb, $"{Prefix}/var/lib/appoxy/services/{service}"]);
        Assert.True(ran.ExitCode == 0, ran.ToString());
    }

    /// <summary>Runs SQL in the platform's database; what it printed, a row a line.</summary>
    public async Task<string> SqlAsync(string sql)
    {
        var ran = await RunAsync("psql", ["-XqtA", "-v", "ON_ERROR_STOP=1", "-c", sql, Installed("database_url")]);
        Assert.True(ran.ExitCode == 0, ran.ToString());
        return ran.Output.Trim();
    }

    /// <summary>The process id of a supervised service now.</summary>
    public int ServicePid(string service) =>
        int.Parse(File.ReadAllText($"{Prefix}/var/lib/appoxy/services/{service}/supervise/pid").Trim(), System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>Kills a service at once; its supervisor has started it again when this returns.</summary>
    public async Task KillAsync(string service)
    {
        var pid = ServicePid(service);
        using (var process = Process.GetProcessById(pid))
            process.Kill();
        await ReplacedAsync(service, pid);
    }

    /// <summary>Has a service end in its own time; its supervisor has started it again when this returns.</summary>
    public async Task RestartAsync(string service)
    {
        var pid = ServicePid(service);
        await ServiceAsync(service, "restart");
        // sv may look before the service has even heard of it.
        await ReplacedAsync(service, pid);
    }

    private Task ReplacedAsync(string service, int pid) => EventuallyAsync(() =>
    {
        try
        {
            return Task.FromResult(ServicePid(service) != pid);
        }
        catch (Exception e) when (e is FormatException or IOException)
        {
            return Task.FromResult(false);
        }
    }, TimeSpan.FromSeconds(20));

    /// <summary>A git repository, made of a folder below tests/apps; its <c>file://</c> URL.</summary>
    public async Task<GitRepository> RepositoryOfAsync(string app, string name)
    {
        var folder = Path.Combine(Prefix, "repos", name);
        Directory.CreateDirectory(folder);
        await RunAsync("cp", ["-rT", Path.Combine(Repository, "tests/apps", app), folder]);
        var repository = new GitRepository(this, folder);
        await repository.GitAsync("init", "-q", "-b", "main");
        await repository.CommitAsync("first");
        return repository;
    }

    /// <summary>Asks until <paramref name="wanted"/> is true; fails after <paramref name="limit"/>.</summary>
    public static async Task EventuallyAsync(Func<Task<bool>> wanted, TimeSpan limit, [CallerArgumentExpression(nameof(wanted))] string what = "")
    {
        var deadline = DateTimeOffset.UtcNow + limit;
        while (!await wanted())
        {
            Assert.True(DateTimeOffset.UtcNow < deadline, $"not within {limit}: {what}");
            await Task.Delay(TimeSpan.FromMilliseconds(50));
        }
    }

    /// <summary>The app's state as <c>appoxy ps</c> tells it.</summary>
    public async Task<DroidStatus> DroidAsync(string app)
    {
        using var api = Api();
        var page = JsonSerializer.Deserialize(await api.GetStringAsync($"v1/apps/{app}/droids"), AppoxyJson.Default.PageDroidStatus)!;
        return page.Items.Single();
    }

    /// <summary>A port that nothing listens on, below those that the kernel gives to connections.</summary>
    /// <summary>A droid-server as the API shows it.</summary>
    public async Task<Server> ServerAsync(string name)
    {
        using var api = Api();
        return JsonSerializer.Deserialize(await api.GetStringAsync($"v1/servers/{name}"), AppoxyJson.Default.Server)!;
    }

    /// <summary>An app as the API shows it.</summary>
    public async Task<App> AppAsync(string name)
    {
        using var api = Api();
        return JsonSerializer.Deserialize(await api.GetStringAsync($"v1/apps/{name}"), AppoxyJson.Default.App)!;
    }

    /// <summary>The uids of the droids that Docker has containers of.</summary>
    public async Task<string[]> DroidsAsync()
    {
        var ran = await DockerAsync("ps", "-a", "--filter", "label=appoxy.uid", "--format", "{{.Label \"appoxy.uid\"}}");
        Assert.True(ran.ExitCode == 0, ran.ToString());
        return [.. ran.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Distinct()];
    }

    public static int FreePort()
    {
        for (var tries = 0; ; tries++)
        {
            using var listener = new TcpListener(IPAddress.Any, Random.Shared.Next(12_000, 32_000));
            try
            {
                listener.Start();
                return ((IPEndPoint)listener.LocalEndpoint).Port;
            }
            catch (SocketException) when (tries < 100)
            {
                // Taken; another one.
            }
        }
    }

    private static string Here([CallerFilePath] string path = "") => path;
}

/// <summary>A repository to deploy from.</summary>
public sealed class GitRepository(Install install, string folder)
{
    public string Folder => folder;

    public string Url => "file://" + folder;

    public async Task GitAsync(params string[] arguments)
    {
        var ran = await install.RunAsync("git", ["-C", folder, "-c", "user.name=t", "-c", "user.email=t@example.org", .. arguments]);
        Assert.True(ran.ExitCode == 0, ran.ToString());
    }

    public async Task CommitAsync(string message)
    {
        await GitAsync("add", "-A");
        await GitAsync("commit", "-q", "-m", message);
    }

    public async Task ReplaceAsync(string file, string before, string after)
    {
        var path = Path.Combine(folder, file);
        var text = await File.ReadAllTextAsync(path);
        Assert.Contains(before, text, StringComparison.Ordinal);
        await File.WriteAllTextAsync(path, text.Replace(before, after, StringComparison.Ordinal));
        await CommitAsync($"{file}: {after}");
    }
}

/// <summary>Tests beside which nothing else may run, since they measure times; one after the other, when the others have ended.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class Alone : ICollectionFixture<Install>
{
    public const string Name = "alone";
}

/// <summary>Tests that run one after the other on an install of theirs, beside the other lanes: the nginxes, and what sleeps and wakes.</summary>
[CollectionDefinition(Name)]
public sealed class FirstLane : ICollectionFixture<Install>
{
    public const string Name = "first lane";
}

/// <summary>As <see cref="FirstLane"/>: builds, deployments, and droids that crash.</summary>
[CollectionDefinition(Name)]
public sealed class SecondLane : ICollectionFixture<Install>
{
    public const string Name = "second lane";
}

/// <summary>As <see cref="FirstLane"/>: users, the API and the CLI, machines that join, and the rest.</summary>
[CollectionDefinition(Name)]
public sealed class ThirdLane : ICollectionFixture<Install>
{
    public const string Name = "third lane";
}
