using Appoxy.Cluster;
using Appoxy.Nginx;

namespace Appoxy.Droidd.LocalNginx;

/// <summary>What <c>local.conf.sbn</c> may use.</summary>
/// <param name="Version">Of this configuration.</param>
/// <param name="Name">The droid-server's name.</param>
/// <param name="Domain">The platform's domain.</param>
/// <param name="Socket">Where the global nginx connects: a unix socket's path.</param>
/// <param name="HookSocket">droidd's hook: a unix socket's path.</param>
/// <param name="Ipv6">Whether this machine has IPv6.</param>
/// <param name="Tls">How global nginxes of other machines connect; null where there are none.</param>
/// <param name="Nginx">The nginx.</param>
internal sealed record LocalModel(
    string Version, string Name, string Domain, string Socket, string HookSocket, bool Ipv6, TlsModel? Tls, NginxSettings Nginx);

/// <summary>Keeps the local nginx at what the templates say.</summary>
internal sealed partial class LocalConfig(DroiddSettings settings, ILogger<LocalConfig> log, TimeProvider time, NodeIdentity? identity = null)
    : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);
    private readonly NginxConfig config =
        new("local", settings.Nginx, nginx => "unix:" + Socket(settings, nginx), (version, nginx) => Model(settings, identity, version, nginx), log,
            time);

    public TemplateStatus Status => config.Status;

    /// <inheritdoc cref="NginxConfig.TryAsync"/>
    public Task<TemplatePreview> TryAsync(string template, string? text, CancellationToken cancel) =>
        config.TryAsync(template, text, cancel);

    /// <summary>Applies what lies in the folder now, rather than within a second.</summary>
    public Task<TemplateStatus> ApplyAsync(CancellationToken cancel) => config.ApplyAsync(cancel);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Interval, time);
        do
        {
            try
            {
                await config.ApplyAsync(stoppingToken);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                LogFault(log, e.Message);
            }
        }
        while (await timer.WaitForNextTickAsync(stoppingToken));
    }

    private static LocalModel Model(DroiddSettings settings, NodeIdentity? identity, string version, NginxSettings nginx) => new(version, settings.Name,
        settings.Domain, Socket(settings, nginx), settings.HookSocket, File.Exists("/proc/net/if_inet6"),
        TlsModel.Of(settings.Cluster?.NginxListen.Length > 0 ? identity : null, settings.Cluster?.NginxListen ?? "", nginx), nginx);

    private static string Socket(DroiddSettings settings, NginxSettings nginx) =>
        nginx.TestPort is null ? settings.NginxSocket : Path.Combine(nginx.RunDir, "nginx");

    [LoggerMessage(Level = LogLevel.Error, Message = "The local nginx's configuration can't be written: {Fault}")]
    private static partial void LogFault(ILogger log, string fault);
}
