namespace Appoxy.Droidd.Isolation;

/// <summary>What the containers of one bridge may reach.</summary>
/// <param name="Bridges">The bridges of droids and builds: none of them may reach another, nor a neighbour on its own.</param>
/// <param name="Nameservers">The machine's own, as <c>10.0.0.2</c>: Docker's resolver asks them from within a container's network.</param>
/// <param name="Allowed">Networks that may be reached although they are private.</param>
/// <param name="HostPorts">TCP ports of this machine that may be reached: those at which visitors come in.</param>
internal sealed record Reach(
    IReadOnlyList<string> Bridges, IReadOnlyList<string> Nameservers, IReadOnlyList<string> Allowed, IReadOnlyList<int> HostPorts);

/// <summary>
/// The two chains of a bridge, as <c>iptables-save</c> writes them. Both are named after it, so that the installs of one machine do
/// not meet. What they let pass goes on to the rules of Docker and of the admin.
/// </summary>
internal static class FirewallRules
{
    private const string Known = "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN";

    /// <summary>Private, shared, link-local (there clouds give out a machine's credentials), loopback, benchmarking and multicast.</summary>
    private static readonly string[] Private4 =
    [
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3",
    ];

    private static readonly string[] Private6 = ["::1/128", "::ffff:0:0/96", "64:ff9b::/96", "fc00::/7", "fe80::/10", "ff00::/8"];

    /// <summary>Hooked into INPUT: from the bridge's containers to this machine itself.</summary>
    public static string HostChain(string bridge) => bridge + ".host";

    /// <summary>Hooked into DOCKER-USER or FORWARD: from the bridge's containers to elsewhere.</summary>
    public static string OutChain(string bridge) => bridge + ".out";

    public static IReadOnlyList<string> Host(Reach reach, bool v6) =>
    [
        // Replies to the local nginx.
        Known,
        // An IPv6 neighbour has to be found first.
        .. v6 ? ["-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN", "-p ipv6-icmp -m icmp6 --icmpv6-type 136 -j RETURN"] : (string[])[],
        .. Names(reach, v6),
        .. reach.HostPorts.Count == 0 ? (string[])[] : [$"-p tcp -m multiport --dports {string.Join(',', reach.HostPorts)} -j RETURN"],
        Refuse(v6),
    ];

    public static IReadOnlyList<string> Out(Reach reach, bool v6) =>
    [
        Known,
        .. reach.Bridges.Select(b => $"-o {b} {Refuse(v6)}"),
        .. Names(reach, v6),
        .. reach.Allowed.Where(n => n.Contains(':') == v6).Select(n => $"-d {n} -j RETURN"),
        .. (v6 ? Private6 : Private4).Select(n => $"-d {n} {Refuse(v6)}"),
    ];

    private static IEnumerable<string> Names(Reach reach, bool v6) => reach.Nameservers.Where(n => n.Contains(':') == v6)
        .SelectMany(n => new[] { "udp", "tcp" }.Select(p => $"-d {n}/{(v6 ? 128 : 32)} -p {p} -m {p} --dport 53 -j RETURN"));

    /// <summary>An app learns at once that it may not, in place of waiting.</summary>
    private static string Refuse(bool v6) => $"-j REJECT --reject-with {(v6 ? "icmp6-port-unreachable" : "icmp-port-unreachable")}";

    /// <summary>
    /// What <c>iptables-restore --noflush</c> has to read so that a table becomes what is wanted, in one step; empty where it is so.
    /// </summary>
    /// <param name="chains">The wanted rules of our chains.</param>
    /// <param name="hooks">Chain → the jumps that must come before all of its other rules.</param>
    /// <param name="table">What <c>iptables-save</c> says of the table now.</param>
    /// <param name="same">Whether a chain's rules of now are the wanted ones; both may be written in different ways.</param>
    public static string Change(
        IReadOnlyDictionary<string, IReadOnlyList<string>> chains, IReadOnlyDictionary<string, IReadOnlyList<string>> hooks, string table,
        Func<string, IReadOnlyList<string>, bool> same)
    {
        var now = Chains(table);
        var lines = new List<string>();
        foreach (var (chain, rules) in chains.Where(c => !now.TryGetValue(c.Key, out var has) || !same(c.Key, has)))
        {
            // A chain that is named is emptied, where it is one of ours.
            lines.Insert(0, $":{chain} - [0:0]");
            lines.AddRange(rules.Select(r => $"-A {chain} {r}"));
        }
        foreach (var (hook, jumps) in hooks)
        {
            var has = now.GetValueOrDefault(hook) ?? [];
            // Those of other bridges and other installs may stand before ours.
            var front = has.TakeWhile(IsOurs).ToList();
            foreach (var jump in jumps.Where(j => !front.Contains(j)))
            {
                if (has.Contains(jump))
                    lines.Add($"-D {hook} {jump}");
                lines.Add($"-I {hook} {jump}");
            }
        }
        return lines.Count == 0 ? "" : $"*filter\n{string.Join('\n', lines)}\nCOMMIT\n";
    }

    /// <summary>The rules of each chain in what <c>iptables-save</c> says.</summary>
    public static Dictionary<string, List<string>> Chains(string table)
    {
        var chains = new Dictionary<string, List<string>>();
        foreach (var line in table.Split('\n'))
        {
            if (line.StartsWith(':'))
                chains[line[1..].Split(' ')[0]] = [];
            else if (line.StartsWith("-A ", StringComparison.Ordinal) && line.Split(' ', 3) is [_, var chain, var rule])
                chains[chain].Add(rule.TrimEnd());
        }
        return chains;
    }

    private static bool IsOurs(string rule) => rule.Split(' ') is ["-i", var bridge, "-j", var chain]
        && (chain == HostChain(bridge) || chain == OutChain(bridge));
}
