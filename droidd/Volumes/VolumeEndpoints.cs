using Appoxy.Droidd.Droids;
using Microsoft.AspNetCore.Http.Features;

namespace Appoxy.Droidd.Volumes;

/// <summary><c>/droids/{uid}/volumes</c>; the app need not have a droid yet.</summary>
internal static class VolumeEndpoints
{
    public static void MapVolumes(this IEndpointRouteBuilder routes)
    {
        var group = routes.MapGroup("/droids/{uid}/volumes").AddEndpointFilter(async (context, next) =>
        {
            var values = context.HttpContext.Request.RouteValues;
            if (!Names.IsUid(values["uid"] as string) || (values.TryGetValue("id", out var id) && !Names.IsUid(id as string)))
                throw new Problem(400, "The uid and the volume's id must be 7 characters a-z and 2-7, the first a letter.");
            await context.HttpContext.RequestServices.GetRequiredService<DroidServer>().ReadyAsync(context.HttpContext.RequestAborted);
            return await next(context);
        });
        group.MapGet("", async (string uid, DroidVolumes volumes, CancellationToken cancel) => TypedResults.Ok(await volumes.ListAsync(uid, cancel)))
            .AddEndpointFilter(DockerPulse.FilterAsync);
        group.MapDelete("/{id}", async (string uid, string id, DroidVolumes volumes, CancellationToken cancel) =>
        {
            await volumes.RemoveAsync(uid, id, cancel);
            return TypedResults.NoContent();
        }).AddEndpointFilter(DockerPulse.FilterAsync);
        group.MapGet("/{id}/files", (string uid, string id, HttpContext http, VolumeCopy copy) => copy.ExportAsync(uid, id,
            () => http.Response.ContentType = "application/gzip", http.Response.Body, http.RequestAborted));
        group.MapPut("/{id}/files", async (string uid, string id, HttpContext http, VolumeCopy copy) =>
        {
            // What a volume may hold is the limit.
            http.Features.GetRequiredFeature<IHttpMaxRequestBodySizeFeature>().MaxRequestBodySize = null;
            await copy.ImportAsync(uid, id, http.Request.Body, http.RequestAborted);
            return TypedResults.NoContent();
        });
    }
}
