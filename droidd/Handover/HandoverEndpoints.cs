using System.Globalization;
using Appoxy.Droidd.Droids;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;

namespace Appoxy.Droidd.Handover;

/// <summary><c>/droids/{uid}/releases</c>; the app need not have a droid yet.</summary>
internal static class HandoverEndpoints
{
    private const int Most = 100;

    public static void MapHandover(this IEndpointRouteBuilder routes)
    {
        var group = routes.MapGroup("/droids/{uid}/releases").AddEndpointFilter(async (context, next) =>
        {
            if (!Names.IsUid(context.HttpContext.GetRouteValue("uid") as string))
                throw new Problem(400, "The uid must be 7 characters a-z and 2-7, the first a letter.");
            await context.HttpContext.RequestServices.GetRequiredService<DroidServer>().ReadyAsync(context.HttpContext.RequestAborted);
            return await next(context);
        });
        group.MapGet("", async (string uid, ReleaseHandover handover, CancellationToken cancel) => TypedResults.Ok(await handover.ListAsync(uid, cancel)));
        group.MapPut("", async (string uid, IReadOnlyList<HandedRelease> releases, ReleaseHandover handover, CancellationToken cancel) =>
            releases.Count > Most || releases.Any(IsOdd) ? throw new Problem(400, "These are no releases.")
            : TypedResults.Ok(await handover.TakeAsync(uid, releases, cancel)));
        group.MapGet("/images", async (string uid, string deployments, HttpContext http, ReleaseHandover handover) =>
        {
            var numbers = deployments.Split(',').Select(n => int.TryParse(n, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : 0).ToList();
            if (numbers.Count > Most || numbers.Any(n => n < 1))
                throw new Problem(400, "deployments must be numbers separated by commas.");
            await using var images = await handover.SaveAsync(uid, numbers, http.RequestAborted);
            http.Response.ContentType = "application/x-tar";
            // Docker may take its time before the first byte, and between two images.
            if (http.Features.Get<IHttpMinResponseDataRateFeature>() is { } rate)
                rate.MinDataRate = null;
            await images.CopyToAsync(http.Response.Body, http.RequestAborted);
        });
        group.MapPut("/images", async (string uid, HttpContext http, ReleaseHandover handover) =>
        {
            http.Features.GetRequiredFeature<IHttpMaxRequestBodySizeFeature>().MaxRequestBodySize = null;
            if (http.Features.Get<IHttpMinRequestBodyDataRateFeature>() is { } rate)
                rate.MinDataRate = null;
            await handover.LoadAsync(http.Request.Body, http.RequestAborted);
            return TypedResults.NoContent();
        });
    }

    private static bool IsOdd(HandedRelease r) => r.Deployment < 1 || (r.Image is not null && !SourceRules.IsImage(r.Image))
        || (r.State is not null && !DeploymentStates.IsFinal(r.State)) || r.Types?.Any(t => !Names.IsProcessType(t.Type)) == true;
}
