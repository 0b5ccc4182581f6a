using Appoxy.Nginx;
using Appoxy.Routerd.Servers;

namespace Appoxy.Routerd.Templates;

/// <summary>
/// Keeps the global nginx at what the templates and the list of droid-servers say. It looks at the files each second, which also
/// sees changes that a watch would miss; neither Postgres nor Redis is needed for it.
/// </summary>
internal sealed class GlobalConfig(RouterdSettings settings, DroidServers servers, ILogger<GlobalConfig> log, TimeProvider time)
    : Rounds(TimeSpan.FromSeconds(1), log)
{
    private readonly NginxConfig nginx = new("global", settings.Nginx, log, time);

    /// <summary>What became of the newest templates.</summary>
    public TemplateStatus Status => nginx.Status;

    protected override Task RoundAsync(CancellationToken cancel) =>
        nginx.ApplyAsync(version => GlobalModel.Of(settings, servers.Known, version), cancel);
}
