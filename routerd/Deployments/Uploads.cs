using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Deployments;

/// <summary>
/// <c>POST /v1/apps/{app}/uploads</c>: takes a folder as tar.gz and passes it on to the app's droid-server as it comes. Only there is
/// it kept, beside the images that are built from it.
/// </summary>
internal static class Uploads
{
    public static async Task<Created<Upload>> CreateAsync(
        string app, HttpContext http, Caller caller, NpgsqlDataSource db, DroidServers servers, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        // The droid-server has a limit of its own.
        http.Features.GetRequiredFeature<IHttpMaxRequestBodySizeFeature>().MaxRequestBodySize = null;
        var upload = await servers[row.Server].UploadAsync(row.Uid, http.Request.Body, cancel);
        return TypedResults.Created((string?)null, upload);
    }
}
