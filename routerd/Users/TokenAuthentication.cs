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

/// <summary>Knows a caller by <c>Authorization: Bearer apx_…</c>.</summary>
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
        if (Context.GetEndpoint()?.Metadata.GetMetadata<IAuthorizeData>() is null)
            return AuthenticateResult.NoResult();
        string header = Request.Headers.Authorization.ToString();
        if (header.Length > MaxLength || (TakesBasic ? BasicToken(header) : BearerToken(header)) is not { } token)
            return AuthenticateResult.NoResult();
        var user = await db.FirstAsync<TokenRow>("""
            select t.id as token_id, u.id, u.email, u.role,
                   t.last_used_at is null or t.last_used_at < now() - interval '10 minutes' as unnoted
            from tokens t join users u on u.id = t.user_id
            where t.hash = @Hash
            """, new { Hash = Secrets.HashToken(token) }, Context.RequestAborted);
        if (user is null)
            return AuthenticateResult.Fail("unknown token");
        if (user.Unnoted)
            await db.RunAsync("update tokens set last_used_at = now() where id = @TokenId", user, Context.RequestAborted);
        var identity = new ClaimsIdentity(
            [new(ClaimTypes.NameIdentifier, user.Id.ToString()), new(ClaimTypes.Email, user.Email), new(ClaimTypes.Role, user.Role)], Name);
        return AuthenticateResult.Success(new AuthenticationTicket(new ClaimsPrincipal(identity), Name));
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
        public long Id { get; init; }
        public string Email { get; init; } = "";
        public string Role { get; init; } = "";
        public bool Unnoted { get; init; }
    }
}
