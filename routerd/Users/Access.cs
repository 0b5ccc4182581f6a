using Appoxy.Routerd.Apps;
using Microsoft.AspNetCore.Authorization;
using Npgsql;

namespace Appoxy.Routerd.Users;

/// <summary>How far a token reaches; each scope includes those before it.</summary>
internal enum Scope
{
    /// <summary>What is counted (<see cref="MetricsTokens"/>), and nothing else; of use to admins only.</summary>
    Metrics,

    /// <summary>What is no secret.</summary>
    Read,

    /// <summary>Deployments, roll-backs, restarts, sleep, scale.</summary>
    Deploy,

    /// <summary>All of the user's apps, their secrets too.</summary>
    Write,

    /// <summary>Users, servers, templates and everybody's apps; of use to admins only.</summary>
    Admin,
}

/// <summary>What a user may do with an app; each role includes those before it.</summary>
internal enum AppRole { View, Deploy, Manage, Owner }

/// <summary>
/// What an endpoint asks of its callers. <see cref="CheckAsync(HttpContext, RequestDelegate)"/> decides by it, before anything of a request but its path is looked at;
/// an endpoint that says nothing is closed, and keeps routerd from starting.
/// </summary>
/// <param name="Scope">The least scope of the token; null for what everybody may.</param>
/// <param name="Role">The least role in the app that the path names.</param>
internal sealed record Access(Scope? Scope, AppRole Role)
{
    /// <summary>Lets tokens call that reach as far as <paramref name="scope"/>; in an app, of users with the role that goes with it.</summary>
    public static AppRole RoleFor(Scope scope) => scope switch
    {
        Users.Scope.Metrics or Users.Scope.Read => AppRole.View, Users.Scope.Deploy => AppRole.Deploy, Users.Scope.Write => AppRole.Manage, _ => AppRole.Owner,
    };

    /// <summary>What an endpoint declares; null if nothing.</summary>
    public static Access? Of(Endpoint endpoint) =>
        endpoint.Metadata.GetMetadata<Access>() is { } access ? access
        : endpoint.Metadata.GetOrderedMetadata<IAuthorizeData>().Any(a => a.Policy == Api.Admins) ? new(Users.Scope.Admin, AppRole.Owner)
        : null;

    public static async Task CheckAsync(HttpContext http, RequestDelegate next)
    {
        // What has no route of ours is the framework's answer to an unknown path or method.
        if (http.GetEndpoint() is RouteEndpoint endpoint)
        {
            var access = Of(endpoint) ?? throw Problem.Forbidden("This is open to nobody.");
            if (access.Scope is { } scope)
                await CheckAsync(http, endpoint, scope);
        }
        await next(http);
    }

    private static async Task CheckAsync(HttpContext http, Endpoint endpoint, Scope scope)
    {
        var caller = Caller.Of(http);
        if (caller.Scope != Users.Scope.Metrics || endpoint.Metadata.GetMetadata<MetricsTokens>() is null)
            caller.Require(scope);
        Session.RequireSameOrigin(http);
        if (http.GetRouteValue("app") is string app)
            await AppRow.CheckAsync(http.RequestServices.GetRequiredService<NpgsqlDataSource>(), caller, app, http.RequestAborted);
        else if (caller.App is not null && endpoint.Metadata.GetMetadata<AppTokens>() is null)
            throw Problem.Forbidden("This token is for one app alone.");
    }

    /// <exception cref="InvalidOperationException">An endpoint does not say who may call it.</exception>
    public static void RequireDeclared(IEndpointRouteBuilder routes)
    {
        var silent = Endpoints(routes).Where(e => Of(e) is null).Select(e => e.DisplayName).ToList();
        if (silent.Count > 0)
            throw new InvalidOperationException($"no access is declared by {string.Join(", ", silent)}: RequireScope or OpenToAll is missing");
    }

    /// <summary>The verb <c>endpoints</c>: method, path, scope and role of each endpoint, a line each.</summary>
    public static int Print(IEndpointRouteBuilder routes)
    {
        var lines = from endpoint in Endpoints(routes)
                    from method in endpoint.Metadata.GetMetadata<HttpMethodMetadata>()?.HttpMethods ?? ["GET"]
                    let access = Of(endpoint)
                    let role = endpoint.RoutePattern.GetParameter("app") is null ? "-" : access.Role.ToString().ToLowerInvariant()
                    let path = "/" + endpoint.RoutePattern.RawText?.Trim('/')
                    select access.Scope is { } scope ? $"{method} {path} {scope.ToString().ToLowerInvariant()} {role}" : $"{method} {path} all -";
        foreach (var line in lines.Order(StringComparer.Ordinal))
            System.Console.WriteLine(line);
        return 0;
    }

    private static IEnumerable<RouteEndpoint> Endpoints(IEndpointRouteBuilder routes) =>
        routes.DataSources.SelectMany(s => s.Endpoints).OfType<RouteEndpoint>();
}

/// <summary>Marks an endpoint whose answer keeps to the app of a token that is bound to one, although its path names none.</summary>
internal sealed class AppTokens;

/// <summary>Marks an endpoint that a token with the scope <see cref="Scope.Metrics"/> may call, whatever scope others need.</summary>
internal sealed class MetricsTokens;

internal static class AccessConventions
{
    /// <summary>Only for tokens that reach as far as <paramref name="scope"/>.</summary>
    /// <param name="builder">Of the endpoint, or of a group of them.</param>
    /// <param name="scope">The least scope.</param>
    /// <param name="role">The least role in the app that the path names, if another than the scope's.</param>
    public static TBuilder RequireScope<TBuilder>(this TBuilder builder, Scope scope, AppRole? role = null)
        where TBuilder : IEndpointConventionBuilder =>
        builder.RequireAuthorization().WithMetadata(new Access(scope, role ?? Access.RoleFor(scope)));

    /// <summary>For all, without a token.</summary>
    public static TBuilder OpenToAll<TBuilder>(this TBuilder builder) where TBuilder : IEndpointConventionBuilder =>
        builder.AllowAnonymous().WithMetadata(new Access(null, AppRole.View));

    /// <summary>For admins, and for tokens that may read metrics.</summary>
    public static TBuilder RequireMetricsScope<TBuilder>(this TBuilder builder) where TBuilder : IEndpointConventionBuilder =>
        builder.RequireScope(Scope.Admin).WithMetadata(new MetricsTokens());

    /// <summary>Also for tokens that are bound to an app.</summary>
    public static TBuilder WithAppTokens<TBuilder>(this TBuilder builder) where TBuilder : IEndpointConventionBuilder =>
        builder.WithMetadata(new AppTokens());
}
