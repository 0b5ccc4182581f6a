using Appoxy.Cluster;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Cluster;

/// <summary>Tokens by which a machine joins, each of them once, for a time, and under one name.</summary>
internal sealed class JoinTokens(CertificateAuthority authority, ClusterSettings settings, RouterdSettings routerd, NpgsqlDataSource db)
{
    private const int Longest = 7 * 24 * 3600;

    /// <exception cref="Problem">400: a value is wrong; 409: a name can't be given, or this machine can't be joined.</exception>
    public async Task<IssuedJoinToken> CreateAsync(NewJoinToken wanted, CancellationToken cancel)
    {
        var role = wanted.Role ?? Roles.DroidServer;
        if (role is not (Roles.DroidServer or Roles.Proxy))
            throw Problem.BadRequest("role must be droid-server or proxy.");
        if (wanted.Name is { } given && (!Names.IsServerName(given) || given == "console"))
            throw Problem.BadRequest("name must be short, as ds2.");
        if (!Quantities.TryParseSeconds(wanted.Expires ?? "1h", out var seconds) || seconds is < 1 or > Longest)
            throw Problem.BadRequest("expires must be a time of up to 7d such as 1h.");
        if (role == Roles.Proxy && routerd.Servers.Length > 0)
            throw Problem.Conflict("Proxies would not reach the apps of this machine: they need a control machine that runs none (--role control).");
        await using var connection = await db.OpenConnectionAsync(cancel);
        var taken = await connection.ListAsync<string>("""
            select name from servers union select server from server_certificates where revoked_at is null and not_after > now()
            union select name from join_tokens where used_at is null and expires_at > now() union select name from proxies
            """, null, cancel);
        var name = wanted.Name ?? Enumerable.Range(2, 10_000).Select(n => (role == Roles.Proxy ? "p" : "ds") + n).First(n => !taken.Contains(n));
        if (await connection.FirstAsync<string>("select address from servers where name = @name", new { name }, cancel) is { } address
            && (role == Roles.Proxy || !address.StartsWith("https://", StringComparison.Ordinal)))
            throw Problem.Conflict($"There is a droid-server {name} that did not join; give another name.");
        var token = JoinToken.New(settings.Address, authority.Fingerprint);
        var expires = await connection.FirstAsync<DateTime>("""
            insert into join_tokens (hash, role, name, expires_at) values (@hash, @role, @name, now() + make_interval(secs => @seconds))
            returning expires_at
            """, new { hash = JoinToken.Hash(token.Secret), role, name, seconds = (double)seconds }, cancel);
        return new IssuedJoinToken(token.Text, name, role, expires);
    }

    /// <summary>Whom the secret lets in, which it does no second time. To be called in the transaction in which the machine joins.</summary>
    /// <returns>Null, and why it lets nobody in.</returns>
    public static async Task<(NodeName? Name, string Fault)> TakeAsync(NpgsqlConnection connection, string secret, CancellationToken cancel)
    {
        var row = await connection.FirstAsync<TokenRow>("""
            select role, name, used_at is not null as used, expires_at < now() as expired from join_tokens where hash = @hash for update
            """, new { hash = JoinToken.Hash(secret) }, cancel);
        if (row is null)
            return (null, "there is no such join token");
        if (row.Used)
            return (null, $"the join token for {row.Role} {row.Name} was used before");
        if (row.Expired)
            return (null, $"the join token for {row.Role} {row.Name} has expired");
        await connection.RunAsync("update join_tokens set used_at = now() where hash = @hash", new { hash = JoinToken.Hash(secret) }, cancel);
        return (new NodeName(row.Name, row.Role), "");
    }

    private sealed record TokenRow
    {
        public string Role { get; init; } = "";
        public string Name { get; init; } = "";
        public bool Used { get; init; }
        public bool Expired { get; init; }
    }
}
