using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Deployments;

/// <summary>
/// <c>POST /v1/apps/{app}/uploads</c>: takes a folder as tar.gz and passes it on to the app's droid-server as it comes. Beside the
/// one that it keeps to build from, see <see cref="UploadStore"/>.
/// </summary>
internal static class Uploads
{
    public static async Task<Created<Upload>> CreateAsync(
        string app, HttpContext http, Caller caller, NpgsqlDataSource db, DroidServers servers, UploadStore store, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        // The droid-server has a limit of its own.
        http.Features.GetRequiredFeature<IHttpMaxRequestBodySizeFeature>().MaxRequestBodySize = null;
        var upload = await store.PassAsync(row.Uid, http.Request.Body, servers[row.Server], cancel);
        return TypedResults.Created((string?)null, upload);
    }
}
