using Appoxy.Droidd.Cluster;
using Appoxy.Droidd.Hooks;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace Appoxy.Droidd;

/// <summary>The two unix sockets: one for routerd, which may ask everything, and one for nginx, which may only wake.</summary>
internal static class Sockets
{
    private const string HookMark = "hook";

    // A unix socket whose backlog is full refuses at once: many visitors may wake many droids in one moment.
    private const int Backlog = 4096;

    public static void Listen(WebApplicationBuilder builder) => builder.WebHost.UseSockets(s => s.Backlog = Backlog).ConfigureKestrel((context, kestrel) =>
    {
        var settings = new DroiddSettings();
        context.Configuration.Bind(settings);
        kestrel.Limits.MaxConcurrentConnections = null;
        ListenAt(kestrel, settings.Listen["unix:".Length..], _ => { });
        ClusterPort.ListenFor(kestrel, settings.Cluster);
        ListenAt(kestrel, settings.HookSocket, options => options.Use(next => connection =>
        {
            connection.Items[HookMark] = true;
            return next(connection);
        }));
    });

    private static void ListenAt(KestrelServerOptions kestrel, string path, Action<ListenOptions> configure)
    {
        // A socket file outlives a killed daemon and would keep the next one from listening.
        File.Delete(path);
        kestrel.ListenUnixSocket(path, options =>
        {
            options.Protocols = HttpProtocols.Http1;
            configure(options);
        });
    }

    /// <summary>On nginx's socket there is the hook and nothing else; on routerd's all but the hook.</summary>
    public static Task KeepApart(HttpContext http, RequestDelegate next)
    {
        var onHookSocket = http.Features.Get<IConnectionItemsFeature>()?.Items.ContainsKey(HookMark) == true;
        if (onHookSocket == (http.Request.Path == WakeHook.Path))
            return next(http);
        http.Response.StatusCode = 404;
        return Task.CompletedTask;
    }

    /// <summary>nginx's workers run as another user and must reach the hook; the other socket is root's alone.</summary>
    public static void Restrict(DroiddSettings settings)
    {
        const UnixFileMode owner = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        File.SetUnixFileMode(settings.Listen["unix:".Length..], owner);
        File.SetUnixFileMode(settings.HookSocket, owner | UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.OtherRead | UnixFileMode.OtherWrite);
    }
}
