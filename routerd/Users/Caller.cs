using System.Security.Claims;
using Appoxy.Routerd.Audits;

namespace Appoxy.Routerd.Users;

/// <summary>The user on whose behalf a request is made, and what the token that was sent allows. Members see their own apps, admins all.</summary>
internal sealed record Caller(long Id, string Email, bool Admin)
{
    public const string AdminRole = "admin";
    public const string TokenClaim = "token";
    public const string TokenNameClaim = "token-name";
    public const string ScopeClaim = "scope";
    public const string AppClaim = "app";

    /// <summary>As far as both the token and the user's own role reach.</summary>
    public required Scope Scope { get; init; }

    /// <summary>The token's id and name.</summary>
    public required long Token { get; init; }
    public required string TokenName { get; init; }

    /// <summary>The uid of the only app that the token is for; null if it is for all that the user has.</summary>
    public string? App { get; init; }

    /// <summary>What the endpoint asks for in the app that is named.</summary>
    public required AppRole Needs { get; init; }

    /// <summary>What the audit log will say of this request.</summary>
    public AuditEntry? Audit { get; init; }

    /// <summary>Lets an endpoint simply ask for a caller.</summary>
    public static ValueTask<Caller> BindAsync(HttpContext http) => ValueTask.FromResult(Of(http));

    public static Caller Of(HttpContext http) => Find(http) ?? throw new InvalidOperationException("this endpoint requires no token");

    /// <summary>Null without a valid token.</summary>
    public static Caller? Find(HttpContext http) => http.User.FindFirstValue(ClaimTypes.NameIdentifier) is not { } id ? null
        : new Caller(long.Parse(id), http.User.FindFirstValue(ClaimTypes.Email)!, http.User.IsInRole(AdminRole))
        {
            Scope = Enum.Parse<Scope>(http.User.FindFirstValue(ScopeClaim)!),
            Token = long.Parse(http.User.FindFirstValue(TokenClaim)!),
            TokenName = http.User.FindFirstValue(TokenNameClaim)!,
            App = http.User.FindFirstValue(AppClaim),
            Needs = http.GetEndpoint() is { } endpoint && Access.Of(endpoint) is { } access ? access.Role : AppRole.Owner,
            Audit = http.Features.Get<AuditEntry>(),
        };

    /// <exception cref="Problem">403: the token does not reach so far.</exception>
    public void Require(Scope scope)
    {
        if (Scope < scope)
            throw Problem.Forbidden(scope == Scope.Admin ? "This is for admins, and needs a token with the scope admin."
                : $"This needs a token with the scope {scope.ToString().ToLowerInvariant()}; this one has {Scope.ToString().ToLowerInvariant()}.");
    }
}
