using System.Globalization;
using System.Net;
using Appoxy.Cluster;
using Appoxy.Daemon;
using Appoxy.Nginx;
using Microsoft.Extensions.Options;

namespace Appoxy.Droidd;

/// <summary>
/// <c>droidd.json</c>, which provision.sh writes; each value can be overridden in <c>droidd.local.json</c> beside it, and there by an
/// environment variable such as <c>APPOXY__drainTimeout</c>.
/// </summary>
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

    /// <summary>
    /// <c>required</c>: droids neither start nor build unless they are kept from this machine, from private networks and from each
    /// other. <c>off</c>: no such rules are made, and whoever runs an app here is trusted with all that the machine can reach.
    /// </summary>
    public string Isolation { get; set; } = "required";

    /// <summary>Private networks or addresses that droids and builds may reach all the same, such as <c>10.20.0.0/24</c>.</summary>
    public string[] PrivateNetworks { get; set; } = [];

    /// <summary>This machine's TCP ports that droids may reach: where visitors come in, so that apps find each other by their hosts.</summary>
    public int[] HostPorts { get; set; } = [];

    /// <summary>Holds a folder for each droid: its spec, its build logs and its events.</summary>
    public string DataDir { get; set; } = "";

    /// <summary>The unix socket on which the local nginx serves the global one.</summary>
    public string NginxSocket { get; set; } = "";

    /// <summary>How long fetching the source may take.</summary>
    public string FetchTimeout { get; set; } = "10m";

    /// <summary>How long a build may take.</summary>
    public string BuildTimeout { get; set; } = "30m";

    /// <summary>The largest upload, as it is sent. Sent through the console's host, nginx's own <c>maxBody</c> holds too.</summary>
    public string UploadLimit { get; set; } = "100m";

    /// <summary>The largest upload when unpacked.</summary>
    public string SourceLimit { get; set; } = "2g";

    /// <summary>How many builds run at once; the others wait. <c>auto</c> is one for each two processors.</summary>
    public string Builds { get; set; } = "auto";

    /// <summary>The memory of a build's steps; 0 for no limit.</summary>
    public string BuildMemory { get; set; } = "2g";

    /// <summary>The processors that a build's steps may use, as 1.5; 0 for no limit. Apps go first in any case.</summary>
    public double BuildCpus { get; set; }

    /// <summary>The program that builds with buildpacks: a name to be looked for on the PATH, or an absolute path.</summary>
    public string Pack { get; set; } = "pack";

    /// <summary>The builder image for apps that have no Dockerfile and name no builder.</summary>
    public string DefaultBuilder { get; set; } = "heroku/builder:24";

    /// <summary>The image whose lifecycle does what a builder that is not trusted may not; empty for pack's own choice.</summary>
    public string LifecycleImage { get; set; } = "";

    /// <summary>The lifecycle for builders made here: its version, or an absolute path of its tgz; empty for pack's own choice.</summary>
    public string Lifecycle { get; set; } = "";

    /// <summary>What builders are made on where an app names its buildpacks: the first that all of them support. Empty for the usual ones.</summary>
    public BuildStack[] Stacks { get; set; } = [];

    /// <summary>What is kept free of the disk that Docker writes to: below it, the droid that writes most is ended. 0 for nothing.</summary>
    public string DiskReserve { get; set; } = "1g";

    /// <summary>How much one volume may hold; 0 for no limit.</summary>
    public string VolumeLimit { get; set; } = "10g";

    /// <summary>
    /// How much a process may write to its log a second, as Docker keeps it, before it is ended: dockerd reads the lines, so that no
    /// limit of the app's holds for what that costs. 0 for no limit.
    /// </summary>
    public string LogRate { get; set; } = "8m";

    /// <summary>Free space below which all goes that no app needs: a share of the disk such as 10%, or a size. 0 for never.</summary>
    public string DiskPressure { get; set; } = "10%";

    /// <summary>What may stay of caches of builds, unused images and layers, oldest first to go.</summary>
    public string CacheBudget { get; set; } = "10g";

    /// <summary>What the logs of builds may take on this server's disk, oldest first to go; routerd keeps copies of its own.</summary>
    public string LogBudget { get; set; } = "1g";

    /// <summary>How long something must have been of no use before it may go.</summary>
    public string CollectAfter { get; set; } = "1h";

    /// <summary>How many versions before the live one are kept for a roll-back.</summary>
    public int KeptVersions { get; set; } = 1;

    /// <summary>How long a release command may take.</summary>
    public string ReleaseTimeout { get; set; } = "15m";

    /// <summary>How long a replaced container may finish its requests.</summary>
    public string DrainTimeout { get; set; } = "30s";

    /// <summary>An OpenTelemetry collector that metrics and traces are sent to, as <c>http://127.0.0.1:4318</c>; empty for none.</summary>
    public string Otlp { get; set; } = "";

    /// <summary>How droidd writes its log: <c>text</c>, or <c>json</c> for a JSON object a line.</summary>
    public string LogFormat { get; set; } = LogLines.Text;

    public NginxSettings Nginx { get; set; } = new();

    /// <summary>How it speaks with other machines; null where there are none.</summary>
    public ClusterSettings? Cluster { get; set; }

    /// <summary>The stacks in force.</summary>
    internal IReadOnlyList<BuildStack> BuildStacks => Stacks.Length > 0 ? Stacks :
    [
        new() { Id = "heroku-24", Distro = "ubuntu@24.04", Build = "heroku/heroku:24-build", Run = "heroku/heroku:24" },
        new()
        {
            Id = "io.buildpacks.stacks.jammy", Distro = "ubuntu@22.04",
            Build = "paketobuildpacks/build-jammy-base", Run = "paketobuildpacks/run-jammy-base",
        },
    ];

    internal long UploadBytes => Bytes(UploadLimit);

    internal long SourceBytes => Bytes(SourceLimit);

    internal long DiskReserveBytes => Bytes(DiskReserve);

    internal long VolumeBytes => Bytes(VolumeLimit);

    internal long CacheBudgetBytes => Bytes(CacheBudget);

    internal long LogBudgetBytes => Bytes(LogBudget);

    internal TimeSpan CollectAfterTime => Time(CollectAfter);

    /// <summary>The free space below which a disk of <paramref name="total"/> bytes is short.</summary>
    internal long DiskPressureBytes(long total) =>
        Percent(DiskPressure) is { } percent ? (long)(total * (percent / 100.0)) : Bytes(DiskPressure);

    internal static int? Percent(string text) => text.EndsWith('%')
        && int.TryParse(text.AsSpan(0, text.Length - 1), NumberStyles.None, CultureInfo.InvariantCulture, out var percent) && percent < 100 ? percent : null;

    internal long LogRateBytes => Bytes(LogRate);

    internal long BuildMemoryBytes => Bytes(BuildMemory);

    internal int BuildsAtOnce => Builds == "auto" ? Math.Max(1, Environment.ProcessorCount / 2) : int.Parse(Builds, CultureInfo.InvariantCulture);

    internal TimeSpan FetchTime => Time(FetchTimeout);

    internal TimeSpan BuildTime => Time(BuildTimeout);

    internal TimeSpan ReleaseTime => Time(ReleaseTimeout);

    internal TimeSpan DrainTime => Time(DrainTimeout);

    private static long Bytes(string text) => Quantities.TryParseBytes(text, out var bytes) ? bytes : throw new FormatException(text);

    private static TimeSpan Time(string text) =>
        TimeSpan.FromSeconds(Quantities.TryParseSeconds(text, out var seconds) ? seconds : throw new FormatException(text));
}

/// <summary>A pair of images that buildpacks run on: one to build on, and one to run on what they made.</summary>
public sealed class BuildStack
{
    /// <summary>The stack's id, as <c>heroku-24</c>, which older buildpacks name.</summary>
    public string Id { get; set; } = "";

    /// <summary>The distribution, as <c>ubuntu@24.04</c>, which newer buildpacks name.</summary>
    public string Distro { get; set; } = "";

    public string Build { get; set; } = "";

    public string Run { get; set; } = "";
}

internal sealed class DroiddSettingsValidator : IValidateOptions<DroiddSettings>
{
    public ValidateOptionsResult Validate(string? name, DroiddSettings options)
    {
        var faults = Faults(options).Concat(options.Nginx.Faults()).Concat(options.Cluster?.Faults() ?? []).ToList();
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
        foreach (var fault in new[] { Telemetry.Fault(s.Otlp), LogLines.Fault(s.LogFormat) }.OfType<string>())
            yield return fault;
        if (s.Isolation is not ("required" or "off"))
            yield return $"isolation is '{s.Isolation}': give required or off";
        foreach (var network in s.PrivateNetworks.Where(n => !Networks.TryNormalize(n, out var normal) || normal != n))
            yield return $"privateNetworks: '{network}': give networks such as 10.20.0.0/24 or 10.20.0.7/32";
        if (s.HostPorts.Length > 15 || s.HostPorts.Any(port => port is < 1 or > 65535))
            yield return "hostPorts: give at most 15 ports from 1 to 65535";
        foreach (var (key, path) in new[] { ("hookSocket", s.HookSocket), ("dataDir", s.DataDir), ("nginxSocket", s.NginxSocket) })
        {
            if (!Path.IsPathFullyQualified(path))
                yield return $"{key} is '{path}': give an absolute path";
        }
        foreach (var (key, time) in new[]
        {
            ("fetchTimeout", s.FetchTimeout), ("buildTimeout", s.BuildTimeout), ("releaseTimeout", s.ReleaseTimeout), ("drainTimeout", s.DrainTimeout),
            ("collectAfter", s.CollectAfter),
        })
        {
            if (!Quantities.TryParseSeconds(time, out var seconds) || seconds == 0)
                yield return $"{key} is '{time}': give a time such as 90s or 10m";
        }
        foreach (var (key, size) in new[] { ("uploadLimit", s.UploadLimit), ("sourceLimit", s.SourceLimit), ("buildMemory", s.BuildMemory),
            ("diskReserve", s.DiskReserve), ("volumeLimit", s.VolumeLimit), ("logRate", s.LogRate) })
        {
            // Docker refuses less than 6 MiB of memory; 0 lifts limits, but not those of uploads.
            if (!Quantities.TryParseBytes(size, out var bytes) || (bytes < 6 << 20 && (bytes != 0 || key is "uploadLimit" or "sourceLimit")))
                yield return $"{key} is '{size}': give a size from 6m such as 100m or 2g";
        }
        if (DroiddSettings.Percent(s.DiskPressure) is null && !Quantities.TryParseBytes(s.DiskPressure, out _))
            yield return $"diskPressure is '{s.DiskPressure}': give a share below 100% such as 10%, or a size such as 5g";
        foreach (var (key, size) in new[] { ("cacheBudget", s.CacheBudget), ("logBudget", s.LogBudget) })
        {
            if (!Quantities.TryParseBytes(size, out _))
                yield return $"{key} is '{size}': give a size such as 10g";
        }
        if (s.Builds != "auto"
            && !(int.TryParse(s.Builds, NumberStyles.None, CultureInfo.InvariantCulture, out var builds) && builds is > 0 and <= 256))
            yield return $"builds is '{s.Builds}': give auto or a number from 1 to 256";
        if (s.BuildCpus is not 0 and (< 0.05 or > 256) || double.IsNaN(s.BuildCpus))
            yield return $"buildCpus is {s.BuildCpus}: give a number from 0.05 to 256, or 0 for no limit";
        if (s.KeptVersions is < 0 or > 100)
            yield return $"keptVersions is {s.KeptVersions}: give a number from 0 to 100";
        if (s.Pack.Length == 0 || s.Pack[0] == '-' || (s.Pack.Contains('/') && !Path.IsPathFullyQualified(s.Pack)))
            yield return $"pack is '{s.Pack}': give the program's name or its absolute path";
        if (!SourceRules.IsImage(s.DefaultBuilder))
            yield return $"defaultBuilder is '{s.DefaultBuilder}': give a builder image such as heroku/builder:24";
        if (s.LifecycleImage.Length > 0 && !SourceRules.IsImage(s.LifecycleImage))
            yield return $"lifecycleImage is '{s.LifecycleImage}': give an image, or nothing";
        if (s.Lifecycle.Length > 0 && !Path.IsPathFullyQualified(s.Lifecycle) && !Version.TryParse(s.Lifecycle, out _))
            yield return $"lifecycle is '{s.Lifecycle}': give a version such as 0.20.11, an absolute path of its tgz, or nothing";
        foreach (var stack in s.Stacks.Where(stack => !SourceRules.IsImage(stack.Build) || !SourceRules.IsImage(stack.Run)
            || (stack.Id.Length == 0 && stack.Distro.Split('@') is not [{ Length: > 0 }, { Length: > 0 }])))
            yield return $"stacks: '{stack.Id}{stack.Distro}': give the images build and run, and an id or a distro such as ubuntu@24.04";
    }
}
