using System.Globalization;
using Appoxy.Routerd.Audits;
using Microsoft.AspNetCore.Authentication;
using Microsoft.AspNetCore.Authentication.OpenIdConnect;
using Microsoft.AspNetCore.DataProtection;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Extensions.Options;
using Microsoft.IdentityModel.Protocols.OpenIdConnect;
using Npgsql;

namespace Appoxy.Routerd.Users;

/// <summary>
/// <c>/v1/oidc</c>: sign-in by an OpenID Connect provider, by an authorization code with PKCE. It ends with a session for the browser, or with a
/// code by which a CLI gets its token.
/// </summary>
internal static partial class OidcSignIn
{
    public const string Callback = "/v1/oidc/callback";
    private const string Scheme = "oidc";
    private const string Again = "Begin it once more.";
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);

    public static void AddOidc(this IServiceCollection services, OidcSettings? oidc)
    {
        if (oidc is null)
            return;
        // Not AddOpenIdConnect, which needs what AddAuthentication brings.
        services.AddSingleton<IDataProtectionProvider, OidcState>();
        services.AddSingleton<IPostConfigureOptions<OpenIdConnectOptions>, OpenIdConnectPostConfigureOptions>();
        services.AddTransient<OpenIdConnectHandler>();
        services.Configure<AuthenticationOptions>(o => o.AddScheme<OpenIdConnectHandler>(Scheme, null));
        services.Configure<OpenIdConnectOptions>(Scheme, o => Configure(o, oidc));
    }

    public static void MapOidc(this WebApplication app) => app.MapGet("/v1/oidc/sign-in", BeginAsync).OpenToAll()
        .WithSummary("Sends a browser to the sign-in provider; it comes back with a session, or with a code for the CLI that sent it").Produces(302)
        .ProducesProblem(404);

    private static void Configure(OpenIdConnectOptions options, OidcSettings oidc)
    {
        options.Authority = oidc.Issuer;
        options.RequireHttpsMetadata = oidc.Issuer.StartsWith("https://", StringComparison.Ordinal);
        (options.ClientId, options.ClientSecret) = (oidc.ClientId, oidc.ReadSecret());
        (options.ResponseType, options.ResponseMode) = (OpenIdConnectResponseType.Code, OpenIdConnectResponseMode.Query);
        options.CallbackPath = Callback;
        // Paths by which a provider may end sessions; there is no such thing here.
        (options.RemoteSignOutPath, options.SignedOutCallbackPath) = (default, default);
        options.Scope.Clear();
        foreach (var scope in oidc.ScopeList)
            options.Scope.Add(scope);
        options.GetClaimsFromUserInfoEndpoint = true;
        options.MapInboundClaims = false;
        options.DisableTelemetry = true;
        options.BackchannelTimeout = Limit;
        options.ClaimActions.Remove("iss");
        options.ClaimActions.MapUniqueJsonKey("email_verified", "email_verified");
        if (oidc.Admin is { } admin)
            options.ClaimActions.MapJsonKey(admin.Name, admin.Name);
        // The answer is a link that the browser follows, so that these may be as strict as the session's own. Secure wherever the console is.
        foreach (var cookie in new[] { options.NonceCookie, options.CorrelationCookie })
            (cookie.SameSite, cookie.SecurePolicy) = (SameSiteMode.Lax, CookieSecurePolicy.SameAsRequest);
        options.Events = new OpenIdConnectEvents
        {
            OnMessageReceived = context =>
            {
                SignIn.Slow(context.HttpContext);
                return Task.CompletedTask;
            },
            OnTicketReceived = ReceivedAsync,
            OnAccessDenied = async context =>
            {
                await FailAsync(context.HttpContext, context.Properties, Problem.Forbidden("The sign-in provider says that access was denied."));
                context.HandleResponse();
            },
            OnRemoteFailure = async context =>
            {
                var fault = Explain(context);
                await NoteAsync(context.HttpContext, oidc, fault);
                await FailAsync(context.HttpContext, context.Properties, fault);
                context.HandleResponse();
            },
        };
    }

    private static async Task BeginAsync([AsParameters] SignInQuery query, HttpContext http, RouterdSettings settings)
    {
        if (settings.Oidc is not { } oidc)
            throw Problem.NotFound("There is no sign-in by OpenID Connect here (oidc in routerd.json, docs/users.md).");
        var asked = query.Asked.Checked();
        SignIn.Slow(http);
        // What the visitor sees, for the address to come back to and for the cookies.
        http.Request.Scheme = Session.SchemeOf(http.Request);
        try
        {
            await http.ChallengeAsync(Scheme, Keep(asked));
        }
        // Told so where its configuration can't be had.
        catch (Exception e) when (Outage.Is(e) || (e is InvalidOperationException && e.InnerException is not null) || IsTimeout(e, http))
        {
            LogAway(http.RequestServices.GetRequiredService<ILogger<OidcSettings>>(), oidc.Issuer, (e.InnerException ?? e).Message);
            throw Problem.Unavailable("The sign-in provider can't be reached right now. A password does as well; or try again in a moment.");
        }
    }

    private static async Task ReceivedAsync(TicketReceivedContext context)
    {
        var (http, services) = (context.HttpContext, context.HttpContext.RequestServices);
        var (db, oidc) = (services.GetRequiredService<NpgsqlDataSource>(), services.GetRequiredService<RouterdSettings>().Oidc!);
        var asked = Kept(context.Properties);
        context.HandleResponse();
        try
        {
            var name = asked.Challenge is null ? "session" : asked.Name ?? CliSignIn.DefaultName;
            var user = await OidcUsers.SignInAsync(OidcIdentity.Of(context.Principal!, oidc), name, http, oidc, db, http.RequestAborted);
            if (asked.Challenge is null)
            {
                await Session.IssueAsync(http, db, user.Id, http.RequestAborted);
                http.Response.Redirect("/");
                return;
            }
            var code = await SignInCodes.IssueAsync(db, user.Id, asked, http.RequestAborted);
            if (asked.Port is { } port)
                Return(http, port, "code", code);
            else
                await SignInPage.WriteAsync(http, 200, $"Signed in as {user.Email}",
                    "Copy this code to where appoxy login waits for it, and to nowhere else: who has asked for it can do there whatever you can.", code);
        }
        catch (Problem refused)
        {
            await FailAsync(http, context.Properties, refused);
        }
    }

    /// <summary>Notes an attempt of which nobody knows whose it is.</summary>
    private static Task NoteAsync(HttpContext http, OidcSettings oidc, Problem fault) => fault.Status is 429 or 503 ? Task.CompletedTask
        : Audit.AddAsync(http.RequestServices.GetRequiredService<NpgsqlDataSource>(), new AuditRow
        {
            Operation = "sign in", Client = ClientAddress.Of(http).ToString(), Status = fault.Status, Detail = $"by {oidc.Issuer}: {fault.Message}",
        }, http.RequestAborted);

    /// <summary>Tells the CLI that waits for an answer, else whoever looks at the browser.</summary>
    private static Task FailAsync(HttpContext http, AuthenticationProperties? properties, Problem fault)
    {
        if (properties is not null && Kept(properties).Port is { } port)
        {
            Return(http, port, "error", fault.Message);
            return Task.CompletedTask;
        }
        return SignInPage.WriteAsync(http, fault.Status, "Not signed in", fault.Message);
    }

    private static void Return(HttpContext http, int port, string name, string value)
    {
        http.Response.Headers.CacheControl = "no-store";
        http.Response.Headers["Referrer-Policy"] = "no-referrer";
        http.Response.Redirect(string.Create(CultureInfo.InvariantCulture, $"http://127.0.0.1:{port}/?{name}={Uri.EscapeDataString(value)}"));
    }

    private static Problem Explain(RemoteFailureContext context)
    {
        var (failure, http) = (context.Failure, context.HttpContext);
        for (var inner = failure; inner is not null; inner = inner.InnerException)
        {
            if (inner is Problem problem)
                return problem;
        }
        // Also what is no more than an old tab; so it is no news to an admin.
        if (failure is AuthenticationFailureException { InnerException: null } || context.Properties is null)
            return Problem.BadRequest($"This is not the answer to a sign-in that this browser has begun. {Again}");
        LogRefused(http.RequestServices.GetRequiredService<ILogger<OidcSettings>>(), ClientAddress.Of(http), OneLine(failure!));
        return Outage.Is(failure!) || IsTimeout(failure!, http) || failure is InvalidOperationException { InnerException: not null }
            ? Problem.Unavailable($"The sign-in provider can't be reached right now. {Again}")
            : Problem.BadRequest($"What the sign-in provider answers is not to be believed; the log of routerd says why. {Again}");
    }

    private static bool IsTimeout(Exception e, HttpContext http) => e is OperationCanceledException && !http.RequestAborted.IsCancellationRequested;

    private static string OneLine(Exception e)
    {
        var text = (e.InnerException ?? e).Message;
        return new([.. text.Take(500).Select(c => char.IsControl(c) || char.IsSurrogate(c) ? ' ' : c)]);
    }

    /// <summary>It travels to the provider and back, sealed.</summary>
    private static AuthenticationProperties Keep(CliSignIn asked)
    {
        var kept = new AuthenticationProperties();
        // What is null is left out by this, and would else come back as an empty text.
        kept.SetString("challenge", asked.Challenge);
        kept.SetString("port", asked.Port?.ToString(CultureInfo.InvariantCulture));
        kept.SetString("name", asked.Name);
        return kept;
    }

    private static CliSignIn Kept(AuthenticationProperties? properties) => new(properties?.GetString("challenge"),
        int.TryParse(properties?.GetString("port"), NumberStyles.None, CultureInfo.InvariantCulture, out var port) ? port : null, properties?.GetString("name"));

    [LoggerMessage(Level = LogLevel.Warning, Message = "The sign-in provider {Issuer} can't be reached: {Fault}")]
    private static partial void LogAway(ILogger log, string issuer, string fault);

    [LoggerMessage(Level = LogLevel.Warning, Message = "A sign-in from {Client} came to nothing: {Fault}")]
    private static partial void LogRefused(ILogger log, System.Net.IPAddress client, string fault);

    /// <summary>How it is asked for.</summary>
    /// <param name="Challenge">As <see cref="CliSignIn.Challenge"/>.</param>
    /// <param name="Port">As <see cref="CliSignIn.Port"/>.</param>
    /// <param name="Name">As <see cref="CliSignIn.Name"/>.</param>
    internal sealed record SignInQuery(
        [FromQuery(Name = "challenge")] string? Challenge, [FromQuery(Name = "port")] int? Port, [FromQuery(Name = "name")] string? Name)
    {
        public CliSignIn Asked => new(Challenge, Port, Name);
    }
}
