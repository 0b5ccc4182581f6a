using System.Net.Sockets;
using StackExchange.Redis;

namespace Appoxy.Routerd.Routes;

/// <summary>The connection to the Redis that the global nginx reads; it comes back by itself whenever Redis does.</summary>
internal sealed class Redis : IAsyncDisposable
{
    /// <summary>Hash: hostname → <c>uid server[,server…] flags</c>.</summary>
    public const string Routes = "appoxy:routes";

    /// <summary>String: the version that <see cref="Routes"/> is at; missing while the routes are not to be relied on.</summary>
    public const string Version = "appoxy:routes:version";

    /// <summary>List: the newest changes as <c>version hostname</c>, without gaps and up to <see cref="Version"/>.</summary>
    public const string Changes = "appoxy:routes:changes";

    /// <summary>Hash: id → the JSON of routing options, for each id that a route has as its flags; never another JSON.</summary>
    public const string Options = "appoxy:options";

    /// <summary>Hash: droid-server → where its local nginx is.</summary>
    public const string Servers = "appoxy:servers";

    /// <summary>Carries <c>version hostname</c>, or <c>version *</c> when any route may have changed.</summary>
    public const string Channel = "appoxy:routes";

    private readonly Task<ConnectionMultiplexer> connecting;

    public Redis(RouterdSettings settings)
    {
        var options = new ConfigurationOptions
        {
            AbortOnConnectFail = false,
            ConnectRetry = 1,
            ConnectTimeout = 2000,
            AsyncTimeout = 2000,
            SyncTimeout = 2000,
            BacklogPolicy = BacklogPolicy.FailFast,
            ReconnectRetryPolicy = new LinearRetry(500),
            HeartbeatInterval = TimeSpan.FromMilliseconds(500),
            ClientName = "routerd-" + settings.Name,
        };
        options.EndPoints.Add(settings.Redis.StartsWith("unix:", StringComparison.Ordinal)
            ? new UnixDomainSocketEndPoint(settings.Redis["unix:".Length..])
            : EndPointCollection.TryParse(settings.Redis)
                ?? throw new ArgumentException($"redis is '{settings.Redis}': give unix:/path or host:port"));
        // Not waited for: routerd starts while Redis is away.
        connecting = ConnectionMultiplexer.ConnectAsync(options);
    }

    /// <exception cref="RedisConnectionException">The first try to connect is not over yet.</exception>
    public IDatabase Database => connecting.IsCompletedSuccessfully
        ? connecting.Result.GetDatabase()
        : throw new RedisConnectionException(ConnectionFailureType.UnableToConnect, CommandFlags.None, "not connected yet");

    public bool IsConnected => connecting.IsCompletedSuccessfully && connecting.Result.IsConnected;

    /// <summary>A script of this folder, which Redis runs whole or not at all.</summary>
    public static string Script(string name)
    {
        using var stream = typeof(Redis).Assembly.GetManifestResourceStream($"Appoxy.Routerd.Routes.{name}")
            ?? throw new InvalidOperationException($"{name} is not embedded");
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }

    public async ValueTask DisposeAsync() => await (await connecting).DisposeAsync();
}
