using Appoxy.Routerd.Servers;

namespace Appoxy.Routerd.Templates;

/// <summary><c>GET /v1/templates</c>: what became of the templates of the global nginx and of each droid-server's.</summary>
internal static class TemplateEndpoints
{
    public static void MapTemplates(this RouteGroupBuilder v1) =>
        v1.MapGet("/templates", async (GlobalConfig config, DroidServers servers, TimeProvider time, CancellationToken cancel) =>
        {
            var locals = await Task.WhenAll(servers.Known.Select(s => LocalAsync(servers, s.Name, time, cancel)));
            return TypedResults.Ok(new Page<TemplateStatus>([config.Status, .. locals]));
        }).RequireAuthorization(Api.Admins);

    private static async Task<TemplateStatus> LocalAsync(DroidServers servers, string server, TimeProvider time, CancellationToken cancel)
    {
        try
        {
            return (await servers[server].StatusAsync(cancel)).Templates;
        }
        catch (Problem e)
        {
            return new TemplateStatus("local", null, new TemplateError("local.conf.sbn", 0, e.Message), time.GetUtcNow());
        }
    }
}
