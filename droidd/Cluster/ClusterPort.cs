using System.Net;
using System.Security.Authentication;
using Appoxy.Cluster;
using Appoxy.Droidd.Droids;
using Docker.DotNet;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;

namespace Appoxy.Droidd.Cluster;

/// <summary>
/// The port at which routerd reaches a droidd on another machine, by mutual TLS. All that its unix socket can do can be done here,
/// by the control machine and nobody else.
/// </summary>
internal static partial class ClusterPort
{
    private const string Mark = "cluster";
    private static readonly TimeSpan DockerLimit = TimeSpan.FromSeconds(2);

    public static void AddCluster(this WebApplicationBuilder builder)
    {
        if (builder.Configuration.GetSection("cluster").Get<ClusterSettings>() is not { } cluster)
            return;
        builder.Services.AddSingleton(s => NodeIdentity.Open(cluster.Folder, s.GetRequiredService<TimeProvider>()));
        builder.Services.AddHostedService(s => new ControlLink(cluster, s.GetRequiredService<NodeIdentity>(),
            cancel => MeasureAsync(s, cancel), s.GetRequiredService<ILogger<ControlLink>>(), s.GetRequiredService<TimeProvider>()));
        builder.WebHost.UseKestrelHttpsConfiguration();
    }

    public static void ListenFor(KestrelServerOptions kestrel, ClusterSettings? cluster)
    {
        if (cluster is not { Listen.Length: > 0 })
            return;
        var identity = kestrel.ApplicationServices.GetRequiredService<NodeIdentity>();
        kestrel.Listen(IPEndPoint.Parse(new Uri(cluster.Listen).Authority), options =>
        {
            options.Protocols = HttpProtocols.Http1;
            options.Use(next => connection =>
            {
                connection.Items[Mark] = true;
                return next(connection);
            });
            options.UseHttps(new HttpsConnectionAdapterOptions
            {
                SslProtocols = SslProtocols.Tls13,
                ServerCertificateSelector = (_, _) => identity.Certificate,
                ClientCertificateMode = ClientCertificateMode.AllowCertificate,
                // Judged for each request by Admit, which can say why.
                ClientCertificateValidation = (_, _, _) => true,
                OnAuthenticate = (_, tls) => tls.AllowTlsResume = false,
            });
        });
    }

    /// <summary>Lets nobody but the control machine in at the port.</summary>
    public static Task AdmitAsync(HttpContext http, RequestDelegate next)
    {
        if (http.Features.Get<IConnectionItemsFeature>()?.Items.ContainsKey(Mark) != true)
            return next(http);
        if (http.RequestServices.GetRequiredService<NodeIdentity>().Fault(http.Connection.ClientCertificate, null, Roles.Control) is not { } fault)
            return next(http);
        LogRefused(http.RequestServices.GetRequiredService<ILogger<NodeIdentity>>(), http.Connection.RemoteIpAddress, fault);
        throw new Problem(http.Connection.ClientCertificate is null ? 401 : 403, $"Not let in: {fault}.");
    }

    private static async Task<Heartbeat> MeasureAsync(IServiceProvider services, CancellationToken cancel)
    {
        string? docker = null;
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(DockerLimit);
        try
        {
            docker = (await services.GetRequiredService<DockerClient>().System.GetVersionAsync(bound.Token)).Version;
        }
        catch (Exception e) when (e is DockerApiException or HttpRequestException or IOException or TimeoutException
                                  || (e is OperationCanceledException && !cancel.IsCancellationRequested))
        {
            // Told by its absence.
        }
        return Machine.Beat(services.GetRequiredService<DroiddSettings>().DataDir, services.GetRequiredService<TimeProvider>()) with
        {
            Docker = docker,
            Droids = services.GetRequiredService<DroidServer>().Droids.Count(),
        };
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "Refused a request from {Peer}: {Fault}")]
    private static partial void LogRefused(ILogger log, IPAddress? peer, string fault);
}
