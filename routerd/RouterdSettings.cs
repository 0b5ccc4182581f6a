using Appoxy.Cluster;
using Appoxy.Daemon;
using Appoxy.Nginx;
using Microsoft.Extensions.Options;
using Npgsql;

namespace Appoxy.Routerd;

/// <summary>
/// <c>routerd.json</c>, which provision.sh writes; each value can be overridden in <c>routerd.local.json</c> beside it, and there by an
/// environment variable such as <c>APPOXY__nginx__workers</c>.
/// </summary>
public sealed class RouterdSettings
{
    /// <summary>This routerd's own name.</summary>
    public string Name { get; set; } = "r1";

    /// <summary>The domain below which apps get their first hostname.</summary>
    public string Domain { get; set; } = "";

    /// <summary>The port that visitors use.</summary>
    public int HttpPort { get; set; } = 80;

    public int HttpsPort { get; set; } = 443;

    /// <summary>Where the API listens, for the global nginx and local callers.</summary>
    public string Listen { get; set; } = "http://127.0.0.1:8700";

    /// <summary>Npgsql's connection string. Secret: it holds the password.</summary>
    public string Postgres { get; set; } = "";

    /// <summary><c>unix:/path</c> or <c>host:port</c>.</summary>
    public string Redis { get; set; } = "";

    /// <summary>
    /// Networks of load balancers that stand before the global nginx, as <c>10.0.0.0/8</c>: what they say of a visitor's address,
    /// scheme and port is believed. Empty: nobody is.
    /// </summary>
    public string[] TrustedProxies { get; set; } = [];

    /// <summary>How often the leading routerd compares the routes in Redis with those in Postgres, at most: <c>30s</c>, <c>5m</c>.</summary>
    public string CompareRoutes { get; set; } = "30s";

    /// <summary>Holds a bare repository for each app that was pushed to.</summary>
    public string GitDir { get; set; } = "/var/lib/appoxy/git";

    /// <summary>Holds the folders that live apps were uploaded as, for when their droid-server is lost.</summary>
    public string UploadDir { get; set; } = "/var/lib/appoxy/uploads";

    /// <summary>The keys that secrets in Postgres are sealed with (docs/secrets.md). Secret, and to be kept apart from the database.</summary>
    public string SecretsKey { get; set; } = "/etc/appoxy/secrets.key";

    /// <summary>The longest <c>git push</c>, as it is sent. Through the console's host, nginx's own <c>maxBody</c> holds too.</summary>
    public string PushLimit { get; set; } = "100m";

    /// <summary>What the logs of deployments may take in Postgres, oldest first to go; each app's newest stays.</summary>
    public string LogBudget { get; set; } = "1g";

    internal long LogBudgetBytes => Quantities.TryParseBytes(LogBudget, out var bytes) ? bytes : throw new FormatException(LogBudget);

    internal long PushBytes => Quantities.TryParseBytes(PushLimit, out var bytes) ? bytes : throw new FormatException(PushLimit);

    /// <summary>What each member and each team may have, where an admin has not said otherwise; admins are not bounded by it.</summary>
    public Quota Quotas { get; set; } = new()
    {
        Apps = "100", Memory = "64g", Cpus = "64", Builds = "5", BuildsPerDay = "500", Teams = "5",
    };

    /// <summary>How many days the audit log is kept.</summary>
    public int AuditDays { get; set; } = 400;

    /// <summary>How many calls of the API a token may make: <c>100r/s,burst=1000</c>.</summary>
    public string TokenRate { get; set; } = "100r/s,burst=1000";

    /// <summary>How many calls of the API may come from an address without a valid token.</summary>
    public string AddressRate { get; set; } = "20r/s,burst=200";

    /// <summary>An OpenTelemetry collector that metrics and traces are sent to, as <c>http://127.0.0.1:4318</c>; empty for none.</summary>
    public string Otlp { get; set; } = "";

    /// <summary>How routerd writes its log: <c>text</c>, or <c>json</c> for a JSON object a line.</summary>
    public string LogFormat { get; set; } = LogLines.Text;

    public NginxSettings Nginx { get; set; } = new();

    /// <summary>Sign-in by OpenID Connect; null where users sign in by passwords alone.</summary>
    public Users.OidcSettings? Oidc { get; set; }

    /// <summary>How it speaks with other machines; null where there are none.</summary>
    public ClusterSettings? Cluster { get; set; }

    /// <summary>How often a droid-server's memory may be promised to apps by their limits, since idle apps sleep; 0 for no limit.</summary>
    public double MemoryOvercommit { get; set; } = 10;

    /// <summary>How long a droid-server may be silent until it counts as down, and its apps are placed elsewhere: <c>30s</c>.</summary>
    public string DownAfter { get; set; } = "30s";

    internal TimeSpan DownAfterTime => TimeSpan.FromSeconds(
        Quantities.TryParseSeconds(DownAfter, out var seconds) ? seconds : throw new FormatException(DownAfter));

    /// <summary><c>on</c>: apps are moved from full droid-servers to emptier ones without being told to; <c>off</c>.</summary>
    public string Rebalance { get; set; } = "off";

    /// <summary>Droid-servers that are there from the start.</summary>
    public ServerSettings[] Servers { get; set; } = [];

    /// <summary>The base of an app's URL and of the console's: <c>http://</c>, host, and the port unless it is 80.</summary>
    public string Url(string host) => HttpPort == 80 ? $"http://{host}" : $"http://{host}:{HttpPort}";
}

/// <summary>A droid-server as settings name it.</summary>
public sealed class ServerSettings
{
    public string Name { get; set; } = "";

    /// <summary>Of its droidd: <c>unix:/path</c>, or <c>https://host:port</c> on another machine.</summary>
    public string Address { get; set; } = "";

    /// <summary>Of its local nginx: <c>unix:/path</c>, or <c>https://host:port</c> on another machine.</summary>
    public string Upstream { get; set; } = "";
}

internal sealed class RouterdSettingsValidator : IValidateOptions<RouterdSettings>
{
    public ValidateOptionsResult Validate(string? name, RouterdSettings options)
    {
        var faults = Faults(options).Concat(options.Nginx.Faults()).Concat(options.Cluster?.Faults() ?? []).Concat(options.Oidc?.Faults() ?? []).ToList();
        return faults.Count == 0 ? ValidateOptionsResult.Success : ValidateOptionsResult.Fail(faults);
    }

    private static IEnumerable<string> Faults(RouterdSettings s)
    {
        if (s.Domain != "localhost" && !(Names.TryNormalizeHost(s.Domain, out var domain) && domain == s.Domain))
            yield return $"domain is '{s.Domain}': give a DNS name in lower case such as example.com";
        if (!Names.IsServerName(s.Name))
            yield return $"name is '{s.Name}': give a short name such as r1";
        if (s.HttpPort is < 1 or > 65535)
            yield return $"httpPort is {s.HttpPort}: give a port from 1 to 65535";
        if (!Uri.TryCreate(s.Listen, UriKind.Absolute, out var listen) || listen.Scheme != "http")
            yield return $"listen is '{s.Listen}': give an address such as http://127.0.0.1:8700";
        if (PostgresFault(s.Postgres) is { } postgres)
            yield return $"postgres is not a connection string ({postgres}): give Host=…;Port=…;Username=…;Password=…;Database=…";
        foreach (var fault in new[] { Telemetry.Fault(s.Otlp), LogLines.Fault(s.LogFormat) }.OfType<string>())
            yield return fault;
        if (!IsAddress(s.Redis))
            yield return $"redis is '{s.Redis}': give unix:/path or host:port";
        foreach (var proxy in s.TrustedProxies)
        {
            if (!Networks.TryNormalize(proxy, out _))
                yield return $"trustedProxies: '{proxy}' is no network: give one such as 10.0.0.0/8 or 2001:db8::/32";
        }
        if (!Quantities.TryParseSeconds(s.CompareRoutes, out var seconds) || seconds < 1)
            yield return $"compareRoutes is '{s.CompareRoutes}': give a time of 1s or more such as 30s";
        if (!Path.IsPathFullyQualified(s.GitDir))
            yield return $"gitDir is '{s.GitDir}': give an absolute path";
        if (!Path.IsPathFullyQualified(s.UploadDir))
            yield return $"uploadDir is '{s.UploadDir}': give an absolute path";
        if (!Path.IsPathFullyQualified(s.SecretsKey))
            yield return $"secretsKey is '{s.SecretsKey}': give an absolute path";
        if (!Quantities.TryParseBytes(s.PushLimit, out var push) || push < 1 << 20)
            yield return $"pushLimit is '{s.PushLimit}': give a size from 1m such as 100m";
        foreach (var fault in Users.Quotas.Faults(s.Quotas))
            yield return fault;
        if (s.AuditDays is < 31 or > 36_500)
            yield return $"auditDays is {s.AuditDays}: give a number of days from 31 such as 400";
        foreach (var (rate, of) in new[] { (s.TokenRate, "tokenRate"), (s.AddressRate, "addressRate") })
        {
            if (!RoutingOption.TryParseRate(rate, out _, out _, out _))
                yield return $"{of} is '{rate}': give a rate such as 100r/s,burst=1000";
        }
        if (!(s.MemoryOvercommit == 0 || s.MemoryOvercommit is >= 0.1 and <= 1000))
            yield return $"memoryOvercommit is {s.MemoryOvercommit}: give a number from 0.1 to 1000, or 0 for no limit";
        if (!Quantities.TryParseSeconds(s.DownAfter, out var down) || down < 5)
            yield return $"downAfter is '{s.DownAfter}': give a time of 5s or more such as 30s";
        if (s.Rebalance is not ("on" or "off"))
            yield return $"rebalance is '{s.Rebalance}': give on or off";
        if (!Quantities.TryParseBytes(s.LogBudget, out _))
            yield return $"logBudget is '{s.LogBudget}': give a size such as 1g";
        foreach (var server in s.Servers)
        {
            if (!Names.IsServerName(server.Name))
                yield return $"servers: '{server.Name}' is no server name: give one such as ds1";
            if (!server.Address.StartsWith("unix:/", StringComparison.Ordinal)
                && !server.Address.StartsWith("https://", StringComparison.Ordinal))
                yield return $"servers: address of {server.Name} is '{server.Address}': give unix:/path or https://host:port";
            if (!IsAddress(server.Upstream))
                yield return $"servers: upstream of {server.Name} is '{server.Upstream}': give unix:/path or host:port";
        }
    }

    /// <summary>Whether it is an address that can stand in an nginx configuration.</summary>
    private static bool IsAddress(string text) => !text.AsSpan().ContainsAny("\"'\\;{}$ \n\r\t")
        && (text.StartsWith("unix:/", StringComparison.Ordinal)
            || (text.LastIndexOf(':') is > 0 and var colon && ushort.TryParse(text.AsSpan(colon + 1), out var port) && port > 0));

    private static string? PostgresFault(string text)
    {
        try
        {
            return new NpgsqlConnectionStringBuilder(text).Host is { Length: > 0 } ? null : "it has no Host";
        }
        catch (ArgumentException e)
        {
            return e.Message;
        }
    }
}
