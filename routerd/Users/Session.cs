using Appoxy.Routerd.Database;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Users;

/// <summary><c>/v1/session</c>: signs a browser in and out. Its token is in a cookie that no script can read.</summary>
internal static class Session
{
    public const string Cookie = "appoxy_session";
    private static readonly TimeSpan Lasts = TimeSpan.FromDays(14);

    public static void MapSession(this WebApplication app)
    {
        app.MapPost("/v1/session", BeginAsync).OpenToAll().WithSummary("Signs a browser in, by a cookie");
        app.MapDelete("/v1/session", EndAsync).RequireScope(Scope.Read).WithAppTokens().WithSummary("Signs the browser out");
    }

    /// <summary>
    /// What a browser sends by itself, the cookie, is worth nothing in a change that another site had it make. Browsers say by
    /// Sec-Fetch-Site, older ones by Origin, which site did.
    /// </summary>
    /// <exception cref="Problem">403: a change with the cookie, and it does not come from the console.</exception>
    public static void RequireSameOrigin(HttpContext http)
    {
        var (request, method) = (http.Request, http.Request.Method);
        if (request.Headers.Authorization.Count == 0 && !HttpMethods.IsGet(method) && !HttpMethods.IsHead(method) && !IsSameOrigin(request))
            throw Problem.Forbidden("With a cookie, changes are taken from the console's own pages alone.");
    }

    private static async Task<Ok<Account>> BeginAsync(NewSession body, HttpContext http, NpgsqlDataSource db, CancellationToken cancel)
    {
        // Else another site could sign a visitor in as somebody else, and have them work there.
        if (!IsSameOrigin(http.Request))
            throw Problem.Forbidden("Sessions are begun from the console's own pages alone; programs use tokens.");
        var user = await SignIn.CheckAsync(body.Email, body.Password, "session", http, db, cancel);
        await IssueAsync(http, db, user.Id, cancel);
        return TypedResults.Ok(new Account(user.Email, user.Role, Accounts.ScopeOf(user.Role)));
    }

    /// <summary>Gives the browser a cookie for a user who has been checked.</summary>
    public static async Task IssueAsync(HttpContext http, NpgsqlDataSource db, long user, CancellationToken cancel)
    {
        var token = Secrets.NewToken();
        await db.RunAsync("""
            insert into tokens (user_id, name, hash, kind, expires_at, renewed) values (@user, 'session', @hash, 'session', now() + @Lasts, @Lasts)
            """, new { user, hash = Secrets.HashToken(token), Lasts }, cancel);
        http.Response.Cookies.Append(Cookie, token, Options(http.Request));
    }

    private static async Task<NoContent> EndAsync(Caller caller, HttpContext http, NpgsqlDataSource db, CancellationToken cancel)
    {
        await db.RunAsync("delete from tokens where id = @Token and kind = 'session'", new { caller.Token }, cancel);
        http.Response.Cookies.Delete(Cookie, Options(http.Request));
        return TypedResults.NoContent();
    }

    private static CookieOptions Options(HttpRequest request) => new()
    {
        HttpOnly = true, SameSite = SameSiteMode.Lax, Path = "/", IsEssential = true, Secure = SchemeOf(request) == "https",
        MaxAge = Lasts,
    };

    private static bool IsSameOrigin(HttpRequest request) => request.Headers["Sec-Fetch-Site"].ToString() switch
    {
        "same-origin" => true,
        "" => string.Equals(request.Headers.Origin, $"{SchemeOf(request)}://{request.Host}", StringComparison.OrdinalIgnoreCase),
        _ => false,
    };

    /// <summary>What the visitor used; the global nginx tells.</summary>
    public static string SchemeOf(HttpRequest request) =>
        request.Headers["X-Forwarded-Proto"].ToString() is "https" ? "https" : request.Scheme;
}
