using System.Net;
using CliWrap;
using CliWrap.Buffered;
using Docker.DotNet;

namespace Appoxy.Droidd.Isolation;

/// <summary>Droids and builds may not run, since nothing would keep them from what they must not reach.</summary>
internal sealed class IsolationException(string message) : IOException(message);

/// <summary>
/// Keeps containers of droids and builds from this machine's own ports, from private and link-local networks and from each other, by
/// chains of its own in the table that Docker uses. Looked at again and again: a restart of Docker or of a firewall may undo them.
/// </summary>
internal sealed partial class Firewall(DockerClient docker, DroiddSettings settings, ILogger<Firewall> log, TimeProvider time)
{
    private const string BridgeFilter = "/proc/sys/net/bridge/bridge-nf-call-ip";
    private const int FaultsUntilRefused = 3;
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan ToolLimit = TimeSpan.FromSeconds(15);
    private static readonly string[] Folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];
    private static readonly string[] ResolverFiles = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

    // By tool and chain: the rules that were put there last, and how the tool wrote them when it was asked.
    private readonly Dictionary<string, (string Wanted, string Written)> written = [];
    private long? checkedAt;
    private bool stands;
    private int faults;
    private string fault = "the rules are not made yet";

    /// <summary>Does nothing where the rules stand, or are not wanted.</summary>
    /// <exception cref="IsolationException">They do not.</exception>
    public void Require()
    {
        if (settings.Isolation != "off" && (!stands || faults >= FaultsUntilRefused))
            throw new IsolationException($"this server can't keep apps apart, so none is started or built ({fault}); see isolation in droidd.json");
    }

    /// <summary>Brings the rules to what they must be, where it is time for that. Faults are kept for <see cref="Require"/>.</summary>
    /// <param name="now">Even if they were looked at a moment ago.</param>
    /// <param name="cancel">Ends it.</param>
    public async Task EnsureAsync(bool now, CancellationToken cancel)
    {
        if (settings.Isolation == "off" || (!now && checkedAt is { } at && time.GetElapsedTime(at) < Interval))
            return;
        var reach = new Reach([await BridgeAsync(settings.Network, cancel), await BridgeAsync(settings.BuildNetwork, cancel)],
            Nameservers(), settings.PrivateNetworks, settings.HostPorts);
        try
        {
            var tool = await ToolAsync("iptables", cancel);
            await ApplyAsync(tool, reach, false, cancel);
            if (Directory.Exists("/proc/sys/net/ipv6"))
                await ApplyAsync(tool.Replace("iptables", "ip6tables", StringComparison.Ordinal), reach, true, cancel);
            FilterBridges();
            if (faults > 0 || !stands)
                LogStands(log, string.Join(", ", reach.Bridges));
            (stands, faults) = (true, 0);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException || (e is OperationCanceledException && !cancel.IsCancellationRequested))
        {
            if (fault != e.Message || faults == 0)
                LogFault(log, e.Message);
            (fault, faults) = (e.Message, faults + 1);
        }
        checkedAt = time.GetTimestamp();
    }

    private async Task ApplyAsync(string tool, Reach reach, bool v6, CancellationToken cancel)
    {
        var table = await RunAsync(tool + "-save", ["-t", "filter"], null, cancel);
        var chains = new Dictionary<string, IReadOnlyList<string>>();
        foreach (var bridge in reach.Bridges)
        {
            chains[FirewallRules.HostChain(bridge)] = FirewallRules.Host(reach, v6);
            chains[FirewallRules.OutChain(bridge)] = FirewallRules.Out(reach, v6);
        }
        var hooks = new Dictionary<string, IReadOnlyList<string>>
        {
            ["INPUT"] = [.. reach.Bridges.Select(b => $"-i {b} -j {FirewallRules.HostChain(b)}")],
            // What Docker promises to leave alone and to ask first; for IPv6 it is not always there.
            [table.Contains("\n:DOCKER-USER ", StringComparison.Ordinal) ? "DOCKER-USER" : "FORWARD"] =
                [.. reach.Bridges.Select(b => $"-i {b} -j {FirewallRules.OutChain(b)}")],
        };
        var change = FirewallRules.Change(chains, hooks, table, (chain, now) =>
            written.TryGetValue(tool + chain, out var last) && last == (Text(chains[chain]), Text(now)));
        if (change.Length == 0)
            return;
        await RunAsync(tool + "-restore", ["--noflush", "--wait", "5"], change, cancel);
        var after = FirewallRules.Chains(await RunAsync(tool + "-save", ["-t", "filter"], null, cancel));
        foreach (var (chain, rules) in chains)
        {
            if (after.GetValueOrDefault(chain) is not { } has || has.Count != rules.Count)
                throw new IOException($"{tool} did not take the rules of {chain}");
            written[tool + chain] = (Text(rules), Text(has));
        }
        LogChanged(log, tool);
    }

    /// <summary>The tool whose table Docker's rules are in: a machine may have two, and a packet passes both.</summary>
    private static async Task<string> ToolAsync(string family, CancellationToken cancel)
    {
        string? works = null;
        string? fault = null;
        foreach (var name in new[] { family, family + "-legacy", family + "-nft" })
        {
            if (Folders.Select(f => Path.Combine(f, name)).FirstOrDefault(p => File.Exists(p + "-save")) is not { } tool)
                continue;
            try
            {
                var table = await RunAsync(tool + "-save", ["-t", "filter"], null, cancel);
                if (table.Contains("\n:DOCKER", StringComparison.Ordinal))
                    return tool;
                works ??= tool;
            }
            catch (IOException e)
            {
                fault ??= e.Message;
            }
        }
        return works ?? throw new IOException(fault ?? $"there is no {family} here");
    }

    /// <summary>Else packets between two containers of one bridge pass no rule.</summary>
    private static void FilterBridges()
    {
        foreach (var file in new[] { BridgeFilter + "tables", BridgeFilter + "6tables" })
        {
            if (!File.Exists(file))
                throw new IOException("the kernel module br_netfilter is not loaded, and droids could reach each other; try: modprobe br_netfilter");
            if (File.ReadAllText(file).Trim() != "1")
                File.WriteAllText(file, "1");
        }
    }

    private async Task<string> BridgeAsync(string network, CancellationToken cancel)
    {
        var seen = await docker.Networks.InspectNetworkAsync(network, cancel);
        return seen.Options?.TryGetValue("com.docker.network.bridge.name", out var name) == true && name.Length > 0 ? name : "br-" + seen.ID[..12];
    }

    /// <summary>The resolvers that Docker may hand on to, but for those on loopback, which it asks from outside the container.</summary>
    private static IReadOnlyList<string> Nameservers() =>
    [
        .. ResolverFiles.Where(File.Exists).SelectMany(File.ReadLines)
            .Select(line => line.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries))
            .Where(words => words is ["nameserver", _, ..])
            .Select(words => IPAddress.TryParse(words[1], out var ip) && !IPAddress.IsLoopback(ip) && ip.ScopeIdIsNone() ? ip.ToString() : null)
            .OfType<string>().Distinct().Order(StringComparer.Ordinal),
    ];

    private static string Text(IEnumerable<string> rules) => string.Join('\n', rules);

    private static async Task<string> RunAsync(string tool, string[] arguments, string? input, CancellationToken cancel)
    {
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(ToolLimit);
        try
        {
            var ran = await Cli.Wrap(tool).WithArguments(arguments).WithStandardInputPipe(PipeSource.FromString(input ?? ""))
                .WithValidation(CommandResultValidation.None).ExecuteBufferedAsync(bound.Token);
            return ran.ExitCode == 0 ? ran.StandardOutput
                : throw new IOException($"{Path.GetFileName(tool)}: {ran.StandardError.ReplaceLineEndings(" ").Trim()}");
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new IOException($"{tool}: {e.Message}", e);
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "The containers of {Bridges} are kept from this machine, from private networks and from each other")]
    private static partial void LogStands(ILogger log, string bridges);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Tool}: the rules were not as they must be, and are now")]
    private static partial void LogChanged(ILogger log, string tool);

    [LoggerMessage(Level = LogLevel.Error, Message = "Apps can't be kept apart: {Fault}")]
    private static partial void LogFault(ILogger log, string fault);
}

file static class Addresses
{
    /// <summary>False for a link-local one that names its interface.</summary>
    public static bool ScopeIdIsNone(this IPAddress ip) =>
        ip.AddressFamily != System.Net.Sockets.AddressFamily.InterNetworkV6 || ip.ScopeId == 0;
}
