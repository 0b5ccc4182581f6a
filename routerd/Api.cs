using Appoxy.Daemon;
using Appoxy.Routerd.Audits;
using Appoxy.Routerd.Cluster;
using Appoxy.Routerd.Users;

namespace Appoxy.Routerd;

/// <summary>What holds for every operation of the API: strict JSON, bounded bodies, tokens, problem+json.</summary>
internal static class Api
{
    /// <summary>The policy of what only admins may do.</summary>
    public const string Admins = "admins";

    private const int MaxBody = 1 << 20;

    public static void AddApi(this WebApplicationBuilder builder)
    {
        builder.WebHost.ConfigureKestrel(o => (o.AddServerHeader, o.Limits.MaxRequestBodySize) = (false, MaxBody));
        // Not AddAuthentication, which brings key rings for cookies and keeps them in root's home.
        builder.Services.AddWebEncoders();
        builder.Services.AddOptions<TokenOptions>(TokenAuthentication.Name);
        builder.Services.AddTransient<TokenAuthentication>();
        builder.Services.AddAuthenticationCore(o =>
        {
            o.DefaultScheme = TokenAuthentication.Name;
            o.AddScheme<TokenAuthentication>(TokenAuthentication.Name, null);
        });
        builder.Services.AddAuthorizationBuilder().AddPolicy(Admins, p => p.RequireRole(Caller.AdminRole));
        builder.Services.AddProblemDetails();
        builder.Services.AddExceptionHandler<ProblemWriter>();
        builder.Services.AddRateLimits();
        builder.Services.AddOpenApi(o => OpenApi.Configure(o));
        builder.Services.Configure<RouteHandlerOptions>(o => o.ThrowOnBadRequest = true);
        builder.Services.ConfigureHttpJsonOptions(o => AppoxyJson.Configure(o.SerializerOptions));
    }

    public static void UseApi(this WebApplication app)
    {
        app.UseRequestIds();
        app.Use(Audit.EndAsync);
        app.UseExceptionHandler();
        app.KeepClusterApart();
        app.UseStatusCodePages(ProblemWriter.WriteStatusAsync);
        app.UseAuthentication();
        app.UseRateLimiter();
        app.Use(Audit.BeginAsync);
        app.UseAuthorization();
        app.Use(Access.CheckAsync);
        app.UseMiddleware<Idempotency>();
        app.MapOpenApi().OpenToAll();
    }
}
