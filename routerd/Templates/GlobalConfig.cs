using System.Text.RegularExpressions;
using Appoxy.Cluster;
using Appoxy.Nginx;
using Appoxy.Routerd.Servers;

namespace Appoxy.Routerd.Templates;

/// <summary>
/// Keeps the global nginx at what the templates and the list of droid-servers say. It looks at the files each second, which also
/// sees changes that a watch would miss; neither Postgres nor Redis is needed for it.
/// </summary>
internal sealed class GlobalConfig(RouterdSettings settings, DroidServers servers, ILogger<GlobalConfig> log, TimeProvider time,
    NodeIdentity? identity = null)
    : Rounds(TimeSpan.FromSeconds(1), log)
{
    private readonly NginxConfig nginx = new("global", settings.Nginx, nginx => $"http://127.0.0.1:{nginx.TestPort ?? settings.HttpPort}/",
        (version, nginx) => GlobalModel.Of(settings, servers.Known, TlsModel.Of(identity, "", nginx), version, nginx), log, time);

    /// <summary>What became of the newest templates.</summary>
    public TemplateStatus Status => nginx.Status;

    /// <inheritdoc cref="NginxConfig.TryAsync"/>
    public Task<TemplatePreview> TryAsync(string template, string? text, CancellationToken cancel) =>
        nginx.TryAsync(template, text, cancel);

    /// <inheritdoc cref="NginxConfig.Find"/>
    public (Match Match, string Template, int Line, string? Override)? Find(Regex sought) => nginx.Find(sought);

    /// <summary>Applies what lies in the folder now, rather than within a second.</summary>
    public Task<TemplateStatus> ApplyAsync(CancellationToken cancel) => nginx.ApplyAsync(cancel);

    protected override Task RoundAsync(CancellationToken cancel) => ApplyAsync(cancel);
}
