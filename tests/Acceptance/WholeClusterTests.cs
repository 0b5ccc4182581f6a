using System.Globalization;
using System.Text.Json;

namespace Appoxy.Tests;

/// <summary>Only where <c>APPOXY_TEST_CLUSTER</c> is set: six machines take some minutes to set up.</summary>
public sealed class WholeClusterFactAttribute : FactAttribute
{
    public WholeClusterFactAttribute()
    {
        if (Environment.GetEnvironmentVariable("APPOXY_TEST_CLUSTER") is null)
            Skip = "set APPOXY_TEST_CLUSTER=1";
    }
}

/// <summary>
/// One control machine, two proxies and three droid-servers, set up by provision.sh alone. <c>APPOXY_TEST_APPS</c> is how many apps (6),
/// <c>APPOXY_TEST_CONTROL_GONE</c> for how many seconds the control machine is gone (20).
/// </summary>
public sealed class WholeClusterTests
{
    private static readonly int Apps = Setting("APPOXY_TEST_APPS", 6);
    private static readonly int Gone = Setting("APPOXY_TEST_CONTROL_GONE", 20);

    [WholeClusterFact]
    public async Task Apps_are_served_by_both_proxies_and_sleep_and_wake_with_all_of_the_control_machine_killed()
    {
        // Runs commands; it is never set up.
        var here = new Install();
        await using var cluster = await Cluster.OpenAsync(here);
        var control = await cluster.MachineAsync();
        await MustAsync(control.ProvisionAsync("--role", "control", "--address", control.Address));
        var proxies = new List<Machine>();
        var servers = new List<Machine>();
        foreach (var role in new[] { "proxy", "proxy", "droid-server", "droid-server", "droid-server" })
        {
            var machine = await cluster.MachineAsync();
            var made = await AppoxyAsync(control, "servers", "join-token", "--role", role, "--json");
            var token = JsonSerializer.Deserialize(made, AppoxyJson.Default.IssuedJoinToken)!;
            var ran = await MustAsync(machine.ProvisionAsync("--role", role, "--join", token.Token, "--address", machine.Address));
            Assert.Contains($"{token.Name} has joined", ran, StringComparison.Ordinal);
            if (role == "proxy")
                proxies.Add(machine);
            else
                servers.Add(machine);
        }
        var source = MakeSource(control);
        for (var n = 0; n < Apps; n++)
        {
            await AppoxyAsync(control, "apps", "create", $"app{n}");
            await AppoxyAsync(control, "deploy", $"app{n}", source);
            await AppoxyAsync(control, "settings", $"app{n}", "pause-after=0", "snooze-after=5s");
        }
        Assert.All(servers, server => Assert.NotEmpty(Directory.GetDirectories($"{server.Prefix}/var/lib/appoxy/droids")));
        await EachAnswersAsync(proxies);

        await control.KillAsync();
        var until = DateTimeOffset.UtcNow.AddSeconds(Gone);
        var rounds = 0;
        do
        {
            foreach (var machine in servers)
                await Install.EventuallyAsync(async () => (await here.RunAsync("docker",
                    ["-H", machine.Docker, "ps", "-q", "--filter", "label=appoxy.uid"])).Output.Trim().Length == 0, TimeSpan.FromSeconds(60));
            await EachAnswersAsync(proxies);
            rounds++;
        }
        while (DateTimeOffset.UtcNow < until);
        Assert.True(rounds > 0);

        await MustAsync(control.ProvisionAsync("--role", "control"));
        await Install.EventuallyAsync(async () => (await AppoxyAsync(control, "servers", "list")).Split('\n').Count(l => l.Contains(" up ", StringComparison.Ordinal)) == 3,
            TimeSpan.FromSeconds(60));
    }

    private static async Task EachAnswersAsync(List<Machine> proxies)
    {
        foreach (var proxy in proxies)
        {
            for (var n = 0; n < Apps; n++)
            {
                var host = $"app{n}.localhost";
                await Install.EventuallyAsync(async () => (await proxy.RunAsync("curl", "-sS", "--noproxy", "*", "-m", "60", "-o", "/dev/null",
                    "-w", "%{http_code}", "-H", "Host: " + host, "http://127.0.0.1/")).Output == "200", TimeSpan.FromSeconds(20), $"{host} through {proxy.Namespace}");
            }
        }
    }

    /// <summary>The sample, which needs no base image.</summary>
    private static string MakeSource(Machine control)
    {
        var folder = Directory.CreateDirectory(Path.Combine(control.Prefix, "app")).FullName;
        foreach (var file in Directory.EnumerateFiles(Path.Combine(new Install().Repository, "droidd/sample/hello")))
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)), overwrite: true);
        var busybox = new[] { "/var/cache/appoxy/busybox/bin/busybox", "/bin/busybox" }.First(File.Exists);
        File.Copy(busybox, Path.Combine(folder, "busybox"), overwrite: true);
        return folder;
    }

    private static Task<string> AppoxyAsync(Machine control, params string[] arguments) =>
        // Not the address and token of the install that is not there.
        MustAsync(control.RunAsync(["env", "-u", "APPOXY_URL", "-u", "APPOXY_TOKEN", $"{control.Prefix}/bin/appoxy", .. arguments]));

    private static async Task<string> MustAsync(Task<Ran> running)
    {
        var ran = await running;
        Assert.True(ran.ExitCode == 0, ran.ToString());
        return ran.Output;
    }

    private static int Setting(string name, int otherwise) =>
        Environment.GetEnvironmentVariable(name) is { } text ? int.Parse(text, CultureInfo.InvariantCulture) : otherwise;
}
