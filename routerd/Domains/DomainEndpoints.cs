using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Domains;

/// <summary><c>/v1/apps/{app}/domains</c>. A row added or removed is all it takes: a trigger tells the publisher.</summary>
internal static class DomainEndpoints
{
    private const int MaxDomains = 200;
    private const string NoHostname = "Give a hostname such as www.example.com or *.example.com, without port or path.";

    public static void MapDomains(this RouteGroupBuilder v1)
    {
        var group = v1.MapGroup("/apps/{app}/domains");
        group.MapGet("", ListAsync).RequireScope(Scope.Read);
        group.MapPost("", AddAsync).RequireScope(Scope.Write);
        group.MapDelete("/{host}", RemoveAsync).RequireScope(Scope.Write);
    }

    private static async Task<Ok<Page<Domain>>> ListAsync(
        string app, [AsParameters] Paging paging, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        var domains = await db.ListAsync<DomainRow>(
            "select hostname, created_at from domains where app_uid = @Uid and hostname > @after order by hostname limit @Rows",
            new { row.Uid, after = paging.After ?? "", paging.Rows }, cancel);
        var next = paging.Cut(domains, d => d.Hostname);
        return TypedResults.Ok(new Page<Domain>([.. domains.Select(d => d.Show())], next));
    }

    /// <summary>Safe twice: a domain that the app has already is answered as if it were new.</summary>
    private static async Task<Created<Domain>> AddAsync(
        string app, NewDomain body, Caller caller, NpgsqlDataSource db, RouterdSettings settings, DroidServers servers,
        CancellationToken cancel)
    {
        if (!Names.TryNormalizeHost(body.Hostname, out var host, allowWildcard: true))
            throw Problem.BadRequest(NoHostname);
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        if (Refusal(host, row.Name, settings.Domain, caller, servers.Known) is { } refusal)
            throw Problem.Forbidden(refusal);
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        await AppRow.LockAsync(connection, caller, app, cancel);
        var owner = await connection.FirstAsync<string>("""
            select app_uid from domains
            where hostname = @host or (hostname = any(@parents) and app_uid <> @Uid and not @Admin)
            order by hostname <> @host limit 1
            """, new { host, parents = Hosts.Wildcards(host), row.Uid, caller.Admin }, cancel);
        if (owner is not null && owner != row.Uid)
            throw Taken(host);
        if (owner is null)
        {
            if (await connection.FirstAsync<int>("select count(*)::int from domains where app_uid = @Uid", row, cancel) >= MaxDomains)
                throw Problem.Conflict($"An app has at most {MaxDomains} domains.");
            try
            {
                await connection.RunAsync("insert into domains (hostname, app_uid) values (@host, @Uid)", new { host, row.Uid }, cancel);
            }
            catch (PostgresException e) when (e.Violates("domains_pkey"))
            {
                throw Taken(host);
            }
        }
        var domain = await connection.FirstAsync<DomainRow>("select hostname, created_at from domains where hostname = @host",
            new { host }, cancel);
        await transaction.CommitAsync(cancel);
        return TypedResults.Created($"/v1/apps/{row.Name}/domains/{host}", domain!.Show());
    }

    private static async Task<NoContent> RemoveAsync(
        string app, string host, Caller caller, NpgsqlDataSource db, RouterdSettings settings, CancellationToken cancel)
    {
        if (!Names.TryNormalizeHost(host, out var name, allowWildcard: true))
            throw Problem.BadRequest(NoHostname);
        var row = await AppRow.FindAsync(db, caller, app, cancel);
        if (name == $"{row.Name}.{settings.Domain}")
            throw Problem.Conflict($"{name} is the app's own name; it goes with the app.");
        if (await db.RunAsync("delete from domains where hostname = @name and app_uid = @Uid", new { name, row.Uid }, cancel) == 0)
            throw Problem.NotFound($"{row.Name} has no domain {name}.");
        return TypedResults.NoContent();
    }

    /// <summary>Why this host can't be had by this app; null if it can.</summary>
    private static string? Refusal(string host, string app, string domain, Caller caller, IReadOnlyList<ServerSettings> servers)
    {
        var bare = host.StartsWith("*.", StringComparison.Ordinal) ? host[2..] : host;
        if (IsWithin(bare, "console." + domain))
            return $"console.{domain} is the console's.";
        if (servers.FirstOrDefault(s => IsWithin(bare, $"{s.Name}.{domain}")) is { } server)
            return $"Names below {server.Name}.{domain} lead to droids directly.";
        if (IsWithin(bare, domain) && !IsWithin(bare, $"{app}.{domain}") && !caller.Admin)
            return $"Below {domain}, {app} has {app}.{domain} and the names below that; others are given by an admin.";
        return null;
    }

    private static bool IsWithin(string host, string domain) =>
        host == domain || host.EndsWith("." + domain, StringComparison.Ordinal);

    private static Problem Taken(string host) => Problem.Conflict($"{host} belongs to another app.");

    private sealed record DomainRow
    {
        public string Hostname { get; init; } = "";
        public DateTime CreatedAt { get; init; }

        public Domain Show() => new(Hostname, CreatedAt);
    }
}
