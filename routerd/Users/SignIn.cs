using System.Threading.RateLimiting;
using Appoxy.Routerd.Audits;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Users;

/// <summary>Knows a user by email and password.</summary>
internal static class SignIn
{
    public const int LeastPassword = 10;

    // Guessing is slowed for each account and each address; hashing, which takes a core for tens of milliseconds, is bounded for all
    // together.
    private static readonly PartitionedRateLimiter<string> Accounts = Limiter(20);
    private static readonly PartitionedRateLimiter<string> Addresses = Limiter(60);
    private static readonly ConcurrencyLimiter Hashing = new(new() { PermitLimit = 2, QueueLimit = 20 });

    /// <summary>The user; noted in the audit log, as is a failure.</summary>
    /// <param name="email">As it was sent.</param>
    /// <param name="password">As it was sent.</param>
    /// <param name="token">The name of what is asked for.</param>
    /// <param name="http">Of the request.</param>
    /// <param name="db">Postgres.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="Problem">
    /// 401: there is no such user, the password is another, or the user is disabled, each told alike and as late. 400, 429.
    /// </exception>
    public static async Task<UserRow> CheckAsync(
        string? email, string? password, string token, HttpContext http, NpgsqlDataSource db, CancellationToken cancel)
    {
        if (!IsEmail(email) || password is not { Length: > 0 and <= 1000 })
            throw Problem.BadRequest("Give email and password.");
        var client = ClientAddress.Of(http);
        using var attempt = Accounts.AttemptAcquire(email!.ToLowerInvariant());
        using var address = Addresses.AttemptAcquire(ClientAddress.Network(client));
        using var hashing = await Hashing.AcquireAsync(1, cancel);
        if (!attempt.IsAcquired || !address.IsAcquired || !hashing.IsAcquired)
            throw Problem.TooMany("Too many sign-ins; wait a minute.");
        var user = await db.FirstAsync<UserRow>($"select {UserRow.Columns} from users where lower(email) = lower(@email)", new { email }, cancel);
        var known = Secrets.Verify(user?.PasswordHash, password) && user!.DisabledAt is null;
        // An unknown email is not kept: it may be a password, typed into the wrong field.
        await Audit.AddAsync(db, new AuditRow
        {
            UserId = user?.Id, UserEmail = user?.Email ?? "", Token = token, Operation = "sign in", Client = client.ToString(),
            Status = known ? 200 : 401, Detail = user is null ? "no such user" : "",
        }, cancel);
        return known ? user! : throw new Problem(401, "There is no user with this email and password.");
    }

    public static bool IsEmail(string? text) =>
        text is { Length: >= 3 and <= 254 } && text.IndexOf('@') is > 0 and var at && at < text.Length - 1
        && !text.Any(c => char.IsControl(c) || char.IsWhiteSpace(c) || char.IsSurrogate(c));

    /// <exception cref="Problem">400: it can't be a password.</exception>
    public static string NewPassword(string? text) => text is { Length: >= LeastPassword and <= 1000 } && !text.Contains('\0', StringComparison.Ordinal)
        ? text : throw Problem.BadRequest($"A password has {LeastPassword} to 1000 characters.");

    /// <summary>Hashes a password, when it is its turn.</summary>
    public static async Task<string> HashAsync(string password, CancellationToken cancel)
    {
        using var hashing = await Hashing.AcquireAsync(1, cancel);
        return hashing.IsAcquired ? Secrets.HashPassword(password) : throw Problem.TooMany("Too many passwords at once; wait a moment.");
    }

    /// <summary>Bounds what an address may try without a token.</summary>
    /// <exception cref="Problem">429.</exception>
    public static void Slow(HttpContext http)
    {
        using var address = Addresses.AttemptAcquire(ClientAddress.Network(ClientAddress.Of(http)));
        if (!address.IsAcquired)
            throw Problem.TooMany("Too many tries; wait a minute.");
    }

    private static PartitionedRateLimiter<string> Limiter(int aMinute) => PartitionedRateLimiter.Create<string, string>(key =>
        RateLimitPartition.GetFixedWindowLimiter(key, _ => new() { PermitLimit = aMinute, Window = TimeSpan.FromMinutes(1) }));
}

/// <summary>A user as Postgres holds it.</summary>
internal sealed record UserRow
{
    public const string Columns = "id, email, password_hash, role, disabled_at, created_at, quota";

    public long Id { get; init; }
    public string Email { get; init; } = "";
    public string PasswordHash { get; init; } = "";
    public string Role { get; init; } = "";
    public DateTime? DisabledAt { get; init; }
    public DateTime CreatedAt { get; init; }
    public string Quota { get; init; } = "{}";
}
