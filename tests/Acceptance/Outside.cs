using System.Security.Cryptography;

namespace Appoxy.Tests;

/// <summary>
/// What lies beyond this machine, in a network namespace of its own behind a veth: a server that listens at a public, a private and a
/// link-local address; and one on another of Docker's networks. All of them on addresses that nobody else has.
/// </summary>
internal sealed class Outside : IAsyncDisposable
{
    private const string Listen = "require('http').createServer((q, s) => s.end('outside')).listen(8080, '0.0.0.0')";

    private readonly Install install;
    private readonly string name = "ax" + RandomNumberGenerator.GetHexString(6, lowercase: true);
    private readonly int n = RandomNumberGenerator.GetInt32(1, 60);

    private Outside(Install install) => this.install = install;

    public string Public => $"203.0.113.{(4 * n) + 2}:8080";

    public string Private => $"10.254.{n}.9:8080";

    public string LinkLocal => $"169.254.{n}.9:8080";

    public string OtherNetwork { get; private set; } = "";

    public IEnumerable<string> All => [Public, Private, LinkLocal, OtherNetwork];

    public static async Task<Outside> OpenAsync(Install install)
    {
        var outside = new Outside(install);
        try
        {
            await outside.OpenAsync();
            return outside;
        }
        catch
        {
            await outside.DisposeAsync();
            throw;
        }
    }

    private async Task OpenAsync()
    {
        await MustAsync("docker", "run", "-d", "--init", "--name", name + "-a", "--network", "none", "appoxy-test/node:18", "node", "-e", Listen);
        var pid = (await MustAsync("docker", "inspect", "-f", "{{.State.Pid}}", name + "-a")).Trim();
        var (here, there) = (name + "h", name + "c");
        await MustAsync("ip", "link", "add", here, "type", "veth", "peer", "name", there);
        await MustAsync("ip", "link", "set", there, "netns", pid);
        await MustAsync("ip", "addr", "add", $"203.0.113.{(4 * n) + 1}/30", "dev", here);
        await MustAsync("ip", "link", "set", here, "up");
        foreach (var address in new[] { Public, Private, LinkLocal })
        {
            var ip = address.Split(':')[0];
            await MustAsync("nsenter", "-t", pid, "-n", "ip", "addr", "add", ip + (address == Public ? "/30" : "/32"), "dev", there);
            if (address != Public)
                await MustAsync("ip", "route", "add", ip + "/32", "dev", here);
        }
        await MustAsync("nsenter", "-t", pid, "-n", "ip", "link", "set", there, "up");
        await MustAsync("docker", "network", "create", name);
        await MustAsync("docker", "run", "-d", "--init", "--name", name + "-b", "--network", name, "appoxy-test/node:18", "node", "-e", Listen);
        OtherNetwork = (await MustAsync("docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name + "-b")).Trim() + ":8080";
        foreach (var target in All)
            await Install.EventuallyAsync(async () => (await install.RunAsync("curl", ["-s", "--noproxy", "*", "-m", "2", "http://" + target])).Output == "outside",
                TimeSpan.FromSeconds(20));
    }

    public async ValueTask DisposeAsync()
    {
        await install.DockerAsync("rm", "-f", name + "-a", name + "-b");
        await install.DockerAsync("network", "rm", name);
        await install.RunAsync("ip", ["link", "delete", name + "h"]);
    }

    private async Task<string> MustAsync(string command, params string[] arguments)
    {
        var ran = await install.RunAsync(command, arguments);
        Assert.True(ran.ExitCode == 0, $"{command} {string.Join(' ', arguments)}: {ran}");
        return ran.Output;
    }
}
