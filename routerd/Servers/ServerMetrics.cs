using System.Diagnostics.Metrics;
using Appoxy.Daemon;
using Appoxy.Routerd.Users;

namespace Appoxy.Routerd.Servers;

/// <summary>How the droid-servers are, as this routerd sees them, and <c>/v1/servers/{name}/metrics</c>, which tells what each counts.</summary>
internal sealed class ServerMetrics
{
    public const string MeterName = Telemetry.Meters + "Servers";

    private IReadOnlyDictionary<string, TimeSpan> silences = new Dictionary<string, TimeSpan>();

    public ServerMetrics(RouterdSettings settings, Routes.Redis redis, IMeterFactory factory)
    {
        var meter = factory.Create(MeterName);
        meter.CreateObservableGauge("appoxy.server.heartbeat.age",
            () => Volatile.Read(ref silences).Select(s => new Measurement<double>(Math.Round(s.Value.TotalSeconds, 3), new KeyValuePair<string, object?>("server", s.Key))), "s",
            "How long ago a droid-server answered this routerd last; it is asked every 2 s.");
        meter.CreateObservableGauge("appoxy.redis.up", () => redis.IsConnected ? 1 : 0, null, "1 where this routerd is connected to Redis.");
        meter.AddDisks(settings.GitDir, settings.UploadDir, settings.Nginx.LogDir, "/");
    }

    /// <summary>For how long each server has been silent.</summary>
    public void Tell(IReadOnlyDictionary<string, TimeSpan> now) => Volatile.Write(ref silences, now);
}

internal static class ServerMetricsEndpoint
{
    /// <summary>Beside the other operations of servers, which tokens for metrics alone may not use.</summary>
    public static void MapServerMetrics(this RouteGroupBuilder v1) => v1.MapGet("/servers/{name}/metrics",
        async (string name, HttpContext http, DroidServers servers, CancellationToken cancel) =>
        {
            var server = servers.Known.FirstOrDefault(s => s.Name == name) ?? throw ServerEndpoints.Unknown(name);
            using var answer = await servers[server.Name].OpenMetricsAsync(cancel);
            http.Response.ContentType = answer.Content.Headers.ContentType?.ToString();
            await answer.Content.CopyToAsync(http.Response.Body, cancel);
        }).RequireMetricsScope();
}
