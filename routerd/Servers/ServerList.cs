namespace Appoxy.Routerd.Servers;

/// <summary>On a proxy: learns which droid-servers there are, which on the control machine <see cref="Reconcile"/> does.</summary>
internal sealed class ServerList(DroidServers servers, ILogger<ServerList> log) : Rounds(TimeSpan.FromSeconds(3), log)
{
    protected override Task RoundAsync(CancellationToken cancel) => servers.RefreshAsync(cancel);
}
