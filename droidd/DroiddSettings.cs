using System.Net;
using Appoxy.Nginx;
using Microsoft.Extensions.Options;

namespace Appoxy.Droidd;

/// <summary><c>droidd.json</c>; each value can be overridden by an environment variable such as <c>APPOXY__drainTimeout</c>.</summary>
public sealed class DroiddSettings
{
    /// <summary>The droid-server's name.</summary>
    public string Name { get; set; } = "";

    public string Domain { get; set; } = "";

    /// <summary>Where routerd reaches this droidd: <c>unix:/path</c>.</summary>
    public string Listen { get; set; } = "";

    /// <summary>The unix socket that the local nginx's error-page hook calls.</summary>
    public string HookSocket { get; set; } = "";

    /// <summary>The Docker engine: <c>unix:///path</c>.</summary>
    public string Docker { get; set; } = "unix:///var/run/docker.sock";

    /// <summary>The Docker network of the droids.</summary>
    public string Network { get; set; } = "droid-net";

    /// <summary>That network's addresses; each droid gets a fixed one.</summary>
    public string Subnet { get; set; } = "10.210.0.0/16";

    /// <summary>The Docker network that builds run on, apart from the droids.</summary>
    public string BuildNetwork { get; set; } = "droid-build";

    /// <summary>Holds a folder for each droid: its spec, its build logs and its events.</summary>
    public string DataDir { get; set; } = "";

    /// <summary>The unix socket on which the local nginx serves the global one.</summary>
    public string NginxSocket { get; set; } = "";

    /// <summary>How long fetching the source may take.</summary>
    public string FetchTimeout { get; set; } = "10m";

    /// <summary>How long a build may take.</summary>
    public string BuildTimeout { get; set; } = "30m";

    /// <summary>How long a replaced container may finish its requests.</summary>
    public string DrainTimeout { get; set; } = "30s";

    public NginxSettings Nginx { get; set; } = new();

    internal TimeSpan FetchTime => Time(FetchTimeout);

    internal TimeSpan BuildTime => Time(BuildTimeout);

    internal TimeSpan DrainTime => Time(DrainTimeout);

    private static TimeSpan Time(string text) =>
        TimeSpan.FromSeconds(Quantities.TryParseSeconds(text, out var seconds) ? seconds : throw new FormatException(text));
}

internal sealed class DroiddSettingsValidator : IValidateOptions<DroiddSettings>
{
    public ValidateOptionsResult Validate(string? name, DroiddSettings options)
    {
        var faults = Faults(options).Concat(options.Nginx.Faults()).ToList();
        return faults.Count == 0 ? ValidateOptionsResult.Success : ValidateOptionsResult.Fail(faults);
    }

    private static IEnumerable<string> Faults(DroiddSettings s)
    {
        if (!Names.IsServerName(s.Name))
            yield return $"name is '{s.Name}': give a short name such as ds1";
        if (s.Domain != "localhost" && !Names.TryNormalizeHost(s.Domain, out _))
            yield return $"domain is '{s.Domain}': give a DNS name such as example.com";
        if (!s.Listen.StartsWith("unix:/", StringComparison.Ordinal))
            yield return $"listen is '{s.Listen}': give unix:/path";
        if (!s.Docker.StartsWith("unix:///", StringComparison.Ordinal))
            yield return $"docker is '{s.Docker}': give unix:///path";
        if (!IPNetwork.TryParse(s.Subnet, out var subnet) || subnet.PrefixLength is < 8 or > 28)
            yield return $"subnet is '{s.Subnet}': give a network of at least 16 addresses such as 10.210.0.0/16";
        foreach (var (key, path) in new[] { ("hookSocket", s.HookSocket), ("dataDir", s.DataDir), ("nginxSocket", s.NginxSocket) })
        {
            if (!Path.IsPathFullyQualified(path))
                yield return $"{key} is '{path}': give an absolute path";
        }
        foreach (var (key, time) in new[] { ("fetchTimeout", s.FetchTimeout), ("buildTimeout", s.BuildTimeout), ("drainTimeout", s.DrainTimeout) })
        {
            if (!Quantities.TryParseSeconds(time, out var seconds) || seconds == 0)
                yield return $"{key} is '{time}': give a time such as 90s or 10m";
        }
    }
}
