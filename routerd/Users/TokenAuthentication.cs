using System.Security.Claims;
using System.Text;
using System.Text.Encodings.Web;
using Appoxy.Routerd.Database;
using Microsoft.AspNetCore.Authentication;
using Microsoft.AspNetCore.Authorization;
using Microsoft.Extensions.Options;
using Npgsql;

namespace Appoxy.Routerd.Users;

internal sealed class TokenOptions : AuthenticationSchemeOptions;

/// <summary>Marks an endpoint for programs that know only HTTP basic auth, as git: the token is the password.</summary>
internal sealed class BasicToken;

/// <summary>Knows a caller by <c>Authorization: Bearer apx_…</c>, or by the cookie of a <see cref="Session"/>.</summary>
internal sealed class TokenAuthentication(
    IOptionsMonitor<TokenOptions> options, ILoggerFactory logger, UrlEncoder encoder, NpgsqlDataSource db)
    : AuthenticationHandler<TokenOptions>(options, logger, encoder)
{
    public const string Name = "Token";
    private const string Bearer = "Bearer ";
    private const string Basic = "Basic ";
    private const int MaxLength = 400;

    protected override async Task<AuthenticateResult> HandleAuthenticateAsync()
    {
        // Health checks and the console must answer while Postgres is away, whatever header they are asked with.
        if (Context.GetEndpoint()?.Metadata is not { } asked
            || (asked.GetMetadata<IAuthorizeData>() is null && asked.GetMetadata<OptionalToken>() is null))
            return AuthenticateResult.NoResult();
        var header = Request.Headers.Authorization.ToString();
        var cookie = header.Length == 0 && !TakesBasic ? Request.Cookies[Session.Cookie] : null;
        if (header.Length > MaxLength || cookie?.Length > MaxLength
            || (cookie ?? (TakesBasic ? BasicToken(header) : BearerToken(header))) is not { } token)
            return AuthenticateResult.NoResult();
        var found = await db.FirstAsync<TokenRow>("""
            select t.id as token_id, t.name, t.scope, t.app_uid, u.id, u.email, u.role,
                   t.last_used_at is null or t.last_used_at < now() - interval '10 minutes' as unnoted
            from tokens t join users u on u.id = t.user_id
            where t.hash = @Hash and (t.kind = 'session') = @InCookie and (t.expires_at is null or t.expires_at > now())
              and u.disabled_at is null and (t.scope is distinct from 'metrics' or u.role = 'admin')
            """, new { Hash = Secrets.HashToken(token), InCookie = cookie is not null }, Context.RequestAborted);
        if (found is null)
            return AuthenticateResult.Fail("unknown token");
        if (found.Unnoted)
            await db.RunAsync("update tokens set last_used_at = now(), expires_at = coalesce(now() + renewed, expires_at) where id = @TokenId",
                found, Context.RequestAborted);
        return AuthenticateResult.Success(new AuthenticationTicket(new ClaimsPrincipal(Identity(found)), Name));
    }

    private static ClaimsIdentity Identity(TokenRow found)
    {
        // An admin's rights are those of the user and of the token together.
        var scope = (Scope)Math.Min((int)(found.Role == Caller.AdminRole ? Scope.Admin : Scope.Write),
            (int)(found.Scope is { } own ? Enum.Parse<Scope>(own, ignoreCase: true) : Scope.Admin));
        var identity = new ClaimsIdentity(
        [
            new(ClaimTypes.NameIdentifier, found.Id.ToString()), new(ClaimTypes.Email, found.Email),
            new(Caller.TokenClaim, found.TokenId.ToString()), new(Caller.TokenNameClaim, found.Name), new(Caller.ScopeClaim, scope.ToString()),
        ], Name);
        if (scope == Scope.Admin)
            identity.AddClaim(new(ClaimTypes.Role, Caller.AdminRole));
        if (found.AppUid is not null)
            identity.AddClaim(new(Caller.AppClaim, found.AppUid));
        return identity;
    }

    protected override Task HandleChallengeAsync(AuthenticationProperties properties)
    {
        Response.Headers.WWWAuthenticate = TakesBasic ? "Basic realm=\"Appoxy: any user name, a token as password\"" : "Bearer";
        Response.StatusCode = 401;
        return Task.CompletedTask;
    }

    private bool TakesBasic => Context.GetEndpoint()?.Metadata.GetMetadata<BasicToken>() is not null;

    private static string? BearerToken(string header) =>
        header.StartsWith(Bearer + Secrets.TokenPrefix, StringComparison.OrdinalIgnoreCase) ? header[Bearer.Length..].Trim() : null;

    /// <summary>The password of HTTP basic auth, where it is a token; any user name will do.</summary>
    private static string? BasicToken(string header)
    {
        var bytes = new byte[MaxLength];
        if (!header.StartsWith(Basic, StringComparison.OrdinalIgnoreCase)
            || !Convert.TryFromBase64String(header[Basic.Length..].Trim(), bytes, out var length))
            return null;
        var text = Encoding.UTF8.GetString(bytes, 0, length);
        var password = text[(text.IndexOf(':', StringComparison.Ordinal) + 1)..];
        return password.StartsWith(Secrets.TokenPrefix, StringComparison.Ordinal) ? password : null;
    }

    private sealed record TokenRow
    {
        public long TokenId { get; init; }
        public string Name { get; init; } = "";
        public string? Scope { get; init; }
        public string? AppUid { get; init; }
        public long Id { get; init; }
        public string Email { get; init; } = "";
        public string Role { get; init; } = "";
        public bool Unnoted { get; init; }
    }
}
