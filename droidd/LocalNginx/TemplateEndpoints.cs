namespace Appoxy.Droidd.LocalNginx;

/// <summary>What routerd asks about the local nginx's templates.</summary>
internal static class TemplateEndpoints
{
    public static void MapTemplates(this IEndpointRouteBuilder routes)
    {
        routes.MapPost("/template/test", async (TemplateTest body, LocalConfig config, CancellationToken cancel) =>
            TypedResults.Ok(await config.TryAsync(body.Name, body.Text, cancel)));
        // A switch that has begun ends, whether or not routerd still waits.
        routes.MapPost("/template/apply", async (LocalConfig config) => TypedResults.Ok(await config.ApplyAsync(CancellationToken.None)));
    }
}
