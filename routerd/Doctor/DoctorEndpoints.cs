using Microsoft.AspNetCore.Http.HttpResults;

namespace Appoxy.Routerd.Doctor;

/// <summary><c>/v1/doctor</c>, for admins.</summary>
internal static class DoctorEndpoints
{
    public static void MapDoctor(this RouteGroupBuilder v1) => v1.MapGet("/doctor",
        async Task<Ok<Page<Finding>>> (Examination examination, CancellationToken cancel) =>
            TypedResults.Ok(new Page<Finding>(await examination.RunAsync(cancel)))).RequireAuthorization(Api.Admins);
}
