using System.Net.Http.Json;
using System.Security.Authentication;
using System.Security.Cryptography;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Appoxy.Cluster;

/// <summary>
/// Tells the control machine every few seconds how this one is, hears what was revoked, and has the certificate renewed in time.
/// While the control machine is away nothing else changes here.
/// </summary>
/// <param name="settings">Of this machine.</param>
/// <param name="identity">Of this machine.</param>
/// <param name="measure">How this machine is now.</param>
/// <param name="log">Told when the control machine goes away, and when it is back.</param>
/// <param name="time">The clock.</param>
public sealed partial class ControlLink(
    ClusterSettings settings, NodeIdentity identity, Func<CancellationToken, Task<Heartbeat>> measure, ILogger<ControlLink> log, TimeProvider time)
    : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);
    private string? fault;
    private string? distrust;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var http = LocalHttp.For(settings.Control + "/", Limit,
            identity.ClientOptions(NodeName.ControlHost, Roles.Control, found => distrust = found));
        using var timer = new PeriodicTimer(Interval, time);
        do
        {
            try
            {
                distrust = null;
                if (identity.IsDue)
                    await RenewAsync(http, stoppingToken);
                await BeatAsync(http, stoppingToken);
                // By its time provision.sh knows.
                await File.WriteAllTextAsync(Path.Combine(settings.Folder, "heard"), "", stoppingToken);
                if (fault is not null)
                    LogBack(log, settings.Control);
                fault = null;
            }
            catch (Exception e) when (e is HttpRequestException or IOException or InvalidDataException or System.Text.Json.JsonException
                                          or CryptographicException or UnauthorizedAccessException
                                      || (e is OperationCanceledException && !stoppingToken.IsCancellationRequested))
            {
                var words = distrust ?? (e.InnerException is AuthenticationException or IOException ? e.InnerException.Message : e.Message);
                if (fault != words)
                    LogAway(log, settings.Control, words);
                fault = words;
            }
        }
        while (await timer.WaitForNextTickAsync(stoppingToken));
    }

    private async Task BeatAsync(HttpClient http, CancellationToken cancel)
    {
        using var response = await http.PostAsJsonAsync("cluster/heartbeat", await measure(cancel), ClusterJson.Default.Heartbeat, cancel);
        response.EnsureSuccessStatusCode();
        if (await response.Content.ReadFromJsonAsync(ClusterJson.Default.HeartbeatAnswer, cancel) is { } answer
            && identity.Revoke(answer.Revoked))
            LogRevoked(log, answer.Revoked.Serials.Count);
    }

    private async Task RenewAsync(HttpClient http, CancellationToken cancel)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var response = await http.PostAsJsonAsync("cluster/renew", new Renewal(NodeIdentity.Request(key)), ClusterJson.Default.Renewal, cancel);
        response.EnsureSuccessStatusCode();
        var renewed = await response.Content.ReadFromJsonAsync(ClusterJson.Default.Renewed, cancel)
            ?? throw new InvalidDataException("the control machine answers a renewal with nothing");
        identity.Renew(key, renewed.Certificate);
        LogRenewed(log, identity.Certificate.SerialNumber, identity.Certificate.NotAfter);
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The control machine at {Control} can't be told how this one is: {Fault}")]
    private static partial void LogAway(ILogger log, string control, string fault);

    [LoggerMessage(Level = LogLevel.Information, Message = "The control machine at {Control} hears this one again")]
    private static partial void LogBack(ILogger log, string control);

    [LoggerMessage(Level = LogLevel.Information, Message = "This machine's certificate was renewed: {Serial}, until {End:u}")]
    private static partial void LogRenewed(ILogger log, string serial, DateTime end);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Count} revoked certificates are refused from now on")]
    private static partial void LogRevoked(ILogger log, int count);
}
