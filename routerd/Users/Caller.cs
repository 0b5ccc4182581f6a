using System.Security.Claims;

namespace Appoxy.Routerd.Users;

/// <summary>The user on whose behalf a request is made. Members see their own apps, admins all.</summary>
internal sealed record Caller(long Id, string Email, bool Admin)
{
    public const string AdminRole = "admin";

    /// <summary>Lets an endpoint simply ask for a caller.</summary>
    public static ValueTask<Caller> BindAsync(HttpContext http)
    {
        var id = http.User.FindFirstValue(ClaimTypes.NameIdentifier)
            ?? throw new InvalidOperationException("this endpoint requires no token");
        return ValueTask.FromResult(new Caller(long.Parse(id), http.User.FindFirstValue(ClaimTypes.Email) ?? "",
            http.User.IsInRole(AdminRole)));
    }
}
