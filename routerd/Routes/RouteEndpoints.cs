using System.Text.Json;
using System.Text.RegularExpressions;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Domains;
using Appoxy.Routerd.Routing;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Templates;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;
using StackExchange.Redis;

namespace Appoxy.Routerd.Routes;

/// <summary><c>GET /v1/routes/{host}</c>: why a host goes where it goes, asked of each part on the way.</summary>
internal static class RouteEndpoints
{
    public static void MapRoutes(this RouteGroupBuilder v1) => v1.MapGet("/routes/{host}", ExplainAsync).RequireScope(Scope.Read).WithAppTokens();

    private static async Task<Ok<RouteExplanation>> ExplainAsync(
        string host, Caller caller, NpgsqlDataSource db, Redis redis, RouterdSettings settings, DroidServers servers,
        GlobalConfig global, TemplateVersions versions, CancellationToken cancel)
    {
        if (!Names.TryNormalizeHost(host, out var name))
            throw Problem.BadRequest("Give a hostname such as www.example.com, without port or path.");
        string[] lookups = [name, .. Hosts.Wildcards(name)];
        var app = await FindAsync(db, lookups, name, settings.Domain, caller, cancel);
        if (!caller.Admin && app is not { Seen: true })
            throw Problem.NotFound($"None of your apps is at {name}.");
        if (name == "console." + settings.Domain)
            return TypedResults.Ok(new RouteExplanation(name, "goes to the console", [await NginxAsync(settings, name, cancel),
                await TemplateAsync(global, versions, $@"server_name\s+{Regex.Escape(name)}(?=[\s;])", cancel)]));
        var by = app is null || app.Hostname == name ? "" : app.Hostname is null ? ", by its direct address" : $", by {app.Hostname}";
        var steps = new List<RouteStep>
        {
            app is null
                ? new("postgres", null, "no app has this host, nor a wildcard that covers it")
                : new("postgres", $"{app.Uid} {app.Server}", $"app {app.Name}{by}"),
            await RedisAsync(redis, lookups, app, cancel),
            await NginxAsync(settings, name, cancel),
        };
        if (app is not null && StoredRouting.Read(app.Routing).Names() is { Count: > 0 } options)
            steps.Add(new("options", string.Join(", ", options), "what the app asks the global nginx to do before it passes a request on"));
        if (app is null)
            return TypedResults.Ok(new RouteExplanation(name, "unknown here: visitors get 404", steps));
        steps.Add(await TemplateAsync(global, versions,
            $@"(upstream\s+{Regex.Escape(app.Server)}\.\w+)\s*\{{[^}}]*?\sserver\s+([^\s;]+)", cancel));
        var (step, state) = await DroidAsync(servers, app, cancel);
        steps.Add(step);
        return TypedResults.Ok(new RouteExplanation(name, $"goes to app {app.Name} on {app.Server}: {state}", steps));
    }

    /// <summary>The app by host, by wildcard, or by the address <c>uid[.port].server.domain</c> of its droid.</summary>
    private static async Task<RoutedApp?> FindAsync(
        NpgsqlDataSource db, string[] lookups, string host, string domain, Caller caller, CancellationToken cancel) =>
        await db.FirstAsync<RoutedApp>("""
            select a.uid, a.name, p.server, found.hostname, a.routing,
                   role_in_app(a.uid, a.owner_id, a.team_id, @Id) is not null and (@App::text is null or a.uid = @App) as seen
            from (select app_uid, hostname, array_position(@lookups, hostname) as rank from domains where hostname = any(@lookups)
                  union all
                  select p.app_uid, null, 0 from placements p
                  where @host ~ ('^' || p.app_uid || '(\.[0-9]{1,5})?\.' || p.server || '\.') and p.app_uid = split_part(@host, '.', 1)
                    and right(@host, length(@domain) + length(p.server) + 2) = '.' || p.server || '.' || @domain) found
            join apps a on a.uid = found.app_uid
            join placements p on p.app_uid = a.uid
            order by found.rank limit 1
            """, new { lookups, host, domain, caller.Id, caller.App }, cancel);

    private static async Task<RouteStep> RedisAsync(Redis redis, string[] lookups, RoutedApp? app, CancellationToken cancel)
    {
        try
        {
            var version = (string?)await redis.Database.StringGetAsync(Redis.Version).WaitAsync(cancel);
            var values = await redis.Database.HashGetAsync(Redis.Routes, [.. lookups.Select(l => (RedisValue)l)]).WaitAsync(cancel);
            var found = (string?)values.FirstOrDefault(v => v.HasValue);
            var agrees = app?.Hostname is null ? found is null : found is not null
                && found.StartsWith($"{app.Uid} {app.Server}", StringComparison.Ordinal);
            return new RouteStep("redis", found, version is null
                ? "has no version: not relied on until the routes are built anew"
                : $"at version {version}{(agrees ? "" : "; differs from postgres, which is brought over in a moment")}");
        }
        catch (Exception e) when (Outage.IsRedis(e))
        {
            return new RouteStep("redis", null, "can't be reached: known hosts are served as last known, unknown ones get 503");
        }
    }

    private static async Task<RouteStep> NginxAsync(RouterdSettings settings, string host, CancellationToken cancel)
    {
        try
        {
            using var control = LocalHttp.For("unix:" + settings.Nginx.ControlSocket, TimeSpan.FromSeconds(2));
            using var answer = JsonDocument.Parse(await control.GetStringAsync("routes/" + host, cancel));
            var uid = Text(answer, "uid");
            var source = Text(answer, "source") ?? "none";
            var options = Text(answer, "options") is { Length: > 0 } names ? $"; options: {names}" : "";
            return new RouteStep("global nginx", uid is null ? null : $"{uid} {Text(answer, "servers")}",
                (Text(answer, "note") is { Length: > 0 } note
                ? $"from {source}: {note}"
                : $"from {source}") + options);
        }
        catch (Exception e) when (e is HttpRequestException or JsonException
            || (e is OperationCanceledException && !cancel.IsCancellationRequested))
        {
            return new RouteStep("global nginx", null, "does not answer at its control socket");
        }
    }

    /// <summary>Which template, and which line of it, made the part of the configuration that a host ends in.</summary>
    private static async Task<RouteStep> TemplateAsync(
        GlobalConfig global, TemplateVersions versions, string sought, CancellationToken cancel)
    {
        if (global.Find(new Regex(sought, RegexOptions.CultureInvariant, TimeSpan.FromSeconds(1))) is not var (match, template, line, text))
            return new RouteStep("template", null, global.Status.Error is { } fault
                ? $"can't be told while the newest templates are refused: {fault}"
                : "the templates in force have no such line: visitors get 502 or another site");
        var found = match.Groups.Count > 1 ? $"{match.Groups[1].Value} → {match.Groups[2].Value}" : match.Value;
        return new RouteStep("template", found, $"{template}:{line}, {await OriginAsync(versions, template, text, cancel)}");
    }

    private static async Task<string> OriginAsync(TemplateVersions versions, string template, string? text, CancellationToken cancel) =>
        text is null ? "as shipped"
        : await versions.NumberAsync(template, TemplateVersions.ShaOf(text)!, cancel) is { } number ? $"version {number}"
        : "edited by hand and no version yet";

    private static string? Text(JsonDocument answer, string member) =>
        answer.RootElement.ValueKind == JsonValueKind.Object && answer.RootElement.TryGetProperty(member, out var value)
            ? value.ValueKind switch
            {
                JsonValueKind.String => value.GetString(),
                JsonValueKind.Array => string.Join(',', value.EnumerateArray()),
                JsonValueKind.Null => null,
                _ => value.ToString(),
            }
            : null;

    private static async Task<(RouteStep Step, string State)> DroidAsync(DroidServers servers, RoutedApp app, CancellationToken cancel)
    {
        try
        {
            if (await servers[app.Server].FindAsync(app.Uid, cancel) is not { } droid)
                return (new("droidd", null, $"{app.Server} has no droid of it: visitors get 404 until it is deployed"), "nothing deployed");
            return (new("droidd", $"{droid.State} {droid.Live?.Address ?? "-"}", droid.Error
                ?? (droid.Live is { } live ? $"deployment {live.Deployment}" : "nothing is live yet")), droid.State);
        }
        catch (Problem e)
        {
            return (new("droidd", null, e.Message), "its droid-server does not answer");
        }
    }

    private sealed record RoutedApp
    {
        public string Uid { get; init; } = "";
        public string Name { get; init; } = "";
        public bool Seen { get; init; }
        public string Server { get; init; } = "";
        public string? Hostname { get; init; }

        public string Routing { get; init; } = "{}";
    }
}
