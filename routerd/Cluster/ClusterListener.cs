using System.Net;
using System.Security.Authentication;
using Appoxy.Cluster;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;

namespace Appoxy.Routerd.Cluster;

/// <summary>
/// The port for other machines. Everybody may shake hands there, so that who is refused is told why, and logged; but nothing except
/// joining is done for whom the CA does not vouch.
/// </summary>
internal static class ClusterListener
{
    private const string Mark = "cluster";
    private const int MaxBody = 64 << 10;

    public static void AddCluster(this WebApplicationBuilder builder, ClusterSettings? cluster)
    {
        if (cluster is null)
            return;
        builder.Services.AddSingleton(cluster);
        builder.Services.ConfigureHttpJsonOptions(o => o.SerializerOptions.TypeInfoResolverChain.Add(ClusterJson.Default));
        if (cluster.CaFolder.Length == 0)
        {
            builder.Services.AddSingleton(s => NodeIdentity.Open(cluster.Folder, s.GetRequiredService<TimeProvider>()));
            builder.Services.AddHostedService(s => new ControlLink(cluster, s.GetRequiredService<NodeIdentity>(),
                _ => Task.FromResult(Machine.Beat(cluster.Folder, s.GetRequiredService<TimeProvider>())),
                s.GetRequiredService<ILogger<ControlLink>>(), s.GetRequiredService<TimeProvider>()));
            foreach (var (store, port) in new[] { (StoreTunnels.Postgres, cluster.PostgresPort), (StoreTunnels.Redis, cluster.RedisPort), (StoreTunnels.Api, cluster.ApiPort) })
            {
                builder.Services.AddSingleton<IHostedService>(s => new StoreTunnel(store, port, cluster, s.GetRequiredService<NodeIdentity>(),
                    s.GetRequiredService<ILogger<StoreTunnel>>()));
            }
            return;
        }
        builder.Services.AddSingleton(s => CertificateAuthority.Open(cluster.CaFolder, s.GetRequiredService<TimeProvider>()));
        builder.Services.AddSingleton(s => ServerCertificates.OpenOwn(s.GetRequiredService<CertificateAuthority>(), cluster,
            s.GetRequiredService<RouterdSettings>(), s.GetRequiredService<TimeProvider>()));
        builder.Services.AddSingleton<JoinTokens>();
        builder.Services.AddSingleton<ServerCertificates>().AddHostedService(s => s.GetRequiredService<ServerCertificates>());
        builder.WebHost.UseKestrelHttpsConfiguration();
    }

    /// <summary>Where routerd listens. Kestrel takes addresses from one place only, so the other port is named here too.</summary>
    public static void ListenFor(this WebApplication app, RouterdSettings settings)
    {
        if (settings.Cluster is not { Listen.Length: > 0, CaFolder.Length: > 0 } cluster)
        {
            app.Urls.Add(settings.Listen);
            return;
        }
        var kestrel = app.Services.GetRequiredService<Microsoft.Extensions.Options.IOptions<KestrelServerOptions>>().Value;
        var (identity, plain) = (app.Services.GetRequiredService<NodeIdentity>(), new Uri(settings.Listen));
        if (IPAddress.TryParse(plain.Host.Trim('[', ']'), out var ip))
            kestrel.Listen(ip, plain.Port);
        else if (plain.IsLoopback)
            kestrel.ListenLocalhost(plain.Port);
        else
            kestrel.ListenAnyIP(plain.Port);
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
                // Judged for each request by KeepApart, which can say why.
                ClientCertificateValidation = (_, _, _) => true,
                OnAuthenticate = (_, tls) => tls.AllowTlsResume = false,
            });
        });
    }

    /// <summary>At the cluster's port there is <c>/cluster</c> and nothing else, and elsewhere all but that.</summary>
    public static void KeepClusterApart(this WebApplication app)
    {
        if (app.Services.GetService<CertificateAuthority>() is null)
            return;
        var identity = app.Services.GetRequiredService<NodeIdentity>();
        var log = app.Services.GetRequiredService<ILogger<ServerCertificates>>();
        app.Use(async (http, next) =>
        {
            var inside = http.Request.Path.StartsWithSegments("/cluster", StringComparison.Ordinal);
            if (http.Features.Get<IConnectionItemsFeature>()?.Items.ContainsKey(Mark) != true)
            {
                if (inside)
                    http.Response.StatusCode = 404;
                else
                    await next(http);
                return;
            }
            if (!inside)
            {
                http.Response.StatusCode = 404;
                return;
            }
            if (http.Features.Get<Microsoft.AspNetCore.Http.Features.IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } limit)
                limit.MaxRequestBodySize = MaxBody;
            if (http.Request.Path.Value is not ("/cluster/ca" or "/cluster/join")
                && identity.Fault(http.Connection.ClientCertificate, null, Roles.DroidServer, Roles.Proxy) is { } fault)
            {
                ClusterEndpoints.LogRefused(log, http.Request.Path.Value is "/cluster/renew" ? "renewal" : "heartbeat",
                    http.Connection.RemoteIpAddress, fault);
                throw new Problem(http.Connection.ClientCertificate is null ? 401 : 403, $"Not let in: {fault}.");
            }
            await next(http);
        });
    }
}
