using Appoxy.Droidd.Isolation;

namespace Appoxy.Tests.Unit;

public sealed class FirewallTests
{
    private const string Bridge = "appoxy-0123abcd";
    private static readonly Reach Reach = new([Bridge, "br-0123456789ab"], ["10.0.0.2", "fd00::2"], ["10.20.0.0/24"], [80, 443]);

    private static readonly Dictionary<string, IReadOnlyList<string>> Chains = new()
    {
        [Bridge + ".host"] = FirewallRules.Host(Reach, v6: false), [Bridge + ".out"] = FirewallRules.Out(Reach, v6: false),
    };

    private static readonly Dictionary<string, IReadOnlyList<string>> Hooks = new()
    {
        ["INPUT"] = [$"-i {Bridge} -j {Bridge}.host"], ["DOCKER-USER"] = [$"-i {Bridge} -j {Bridge}.out"],
    };

    private static string Change(string table) => FirewallRules.Change(Chains, Hooks, table, (chain, now) => Chains[chain].SequenceEqual(now));

    /// <summary>A table as iptables-save writes it.</summary>
    private static string Table(IEnumerable<string> input, IEnumerable<string> dockerUser, bool ours = true) => string.Join('\n',
    [
        "*filter", ":INPUT ACCEPT [1:2]", ":FORWARD DROP [0:0]", ":DOCKER-USER - [0:0]", .. ours ? Chains.Keys.Select(c => $":{c} - [0:0]") : [],
        .. input.Select(r => "-A INPUT " + r), .. dockerUser.Select(r => "-A DOCKER-USER " + r),
        .. ours ? Chains.SelectMany(c => c.Value.Select(r => $"-A {c.Key} {r}")) : [], "COMMIT", "",
    ]);

    [Fact]
    public void Rules_that_stand_before_all_others_are_left_alone() => Assert.Equal("", Change(Table(
        ["-i appoxy-ffffffff -j appoxy-ffffffff.host", Hooks["INPUT"][0], "-p tcp -j ACCEPT"], [Hooks["DOCKER-USER"][0], "-j RETURN"])));

    [Fact]
    public void Missing_chains_and_hooks_are_made()
    {
        var change = Change(Table(["-p tcp -j ACCEPT"], ["-j RETURN"], ours: false));
        Assert.Contains($":{Bridge}.host - [0:0]", change, StringComparison.Ordinal);
        Assert.Contains($"-I INPUT -i {Bridge} -j {Bridge}.host", change, StringComparison.Ordinal);
        Assert.Contains($"-I DOCKER-USER -i {Bridge} -j {Bridge}.out", change, StringComparison.Ordinal);
        Assert.DoesNotContain("-D ", change, StringComparison.Ordinal);
    }

    [Fact]
    public void Hook_that_comes_after_another_rule_is_moved_before_it()
    {
        var change = Change(Table(["-p tcp -j ACCEPT", Hooks["INPUT"][0]], [Hooks["DOCKER-USER"][0]]));
        Assert.Equal($"*filter\n-D INPUT {Hooks["INPUT"][0]}\n-I INPUT {Hooks["INPUT"][0]}\nCOMMIT\n", change);
    }

    [Fact]
    public void Chain_that_was_changed_by_hand_is_written_anew() =>
        Assert.Contains($":{Bridge}.out - [0:0]", Change(Table(Hooks["INPUT"], Hooks["DOCKER-USER"])
            .Replace($"-A {Bridge}.out -d 10.20.0.0/24 -j RETURN\n", "", StringComparison.Ordinal)), StringComparison.Ordinal);

    [Fact]
    public void Neighbours_are_refused_before_allowed_networks_and_those_before_private_ones()
    {
        var rules = FirewallRules.Out(Reach, v6: false).ToList();
        var (neighbour, name, allowed, refused) = (rules.FindIndex(r => r.StartsWith($"-o {Bridge}", StringComparison.Ordinal)),
            rules.FindIndex(r => r.StartsWith("-d 10.0.0.2/32 -p udp", StringComparison.Ordinal)),
            rules.IndexOf("-d 10.20.0.0/24 -j RETURN"), rules.FindIndex(r => r.StartsWith("-d 10.0.0.0/8", StringComparison.Ordinal)));
        Assert.True(0 < neighbour && neighbour < name && name < allowed && allowed < refused);
        Assert.Contains(rules, r => r.StartsWith("-d 169.254.0.0/16", StringComparison.Ordinal));
        Assert.DoesNotContain(rules, r => r.Contains("fd00", StringComparison.Ordinal));
        Assert.StartsWith("-j REJECT", FirewallRules.Host(Reach, v6: true)[^1], StringComparison.Ordinal);
    }
}
