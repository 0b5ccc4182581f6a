using System.Threading.RateLimiting;
using Appoxy.Routerd.Database;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Users;

/// <summary>Exchanges a password for a token: <c>POST /v1/tokens</c>.</summary>
internal static class SignIn
{
    // Guessing is slowed for each address; hashing, which takes a core for tens of milliseconds, is bounded for all together.
    private static readonly PartitionedRateLimiter<string> Tries = PartitionedRateLimiter.Create<string, string>(email =>
        RateLimitPartition.GetFixedWindowLimiter(email, _ => new() { PermitLimit = 20, Window = TimeSpan.FromMinutes(1) }));

    private static readonly ConcurrencyLimiter Hashing = new(new() { PermitLimit = 2, QueueLimit = 20 });

    public static void MapTokens(this WebApplication app) => app.MapPost("/v1/tokens", CreateAsync);

    private static async Task<Created<IssuedToken>> CreateAsync(NewToken body, NpgsqlDataSource db, CancellationToken cancel)
    {
        if (!IsEmail(body.Email) || body.Password is not { Length: > 0 and <= 1000 })
            throw Problem.BadRequest("Give email and password.");
        var name = body.Name ?? "sign-in";
        if (name.Length is 0 or > 100 || name.Any(char.IsControl))
            throw Problem.BadRequest("A token's name has 1 to 100 characters.");
        var email = body.Email!.ToLowerInvariant();
        using var attempt = Tries.AttemptAcquire(email);
        using var hashing = await Hashing.AcquireAsync(1, cancel);
        if (!attempt.IsAcquired || !hashing.IsAcquired)
            throw Problem.TooMany("Too many sign-ins; wait a minute.");
        var user = await db.FirstAsync<UserRow>("select id, password_hash from users where lower(email) = @email", new { email }, cancel);
        if (!Secrets.Verify(user?.PasswordHash, body.Password))
            throw new Problem(401, "There is no user with this email and password.");
        var token = Secrets.NewToken();
        await db.RunAsync("insert into tokens (user_id, name, hash) values (@Id, @name, @hash)",
            new { user!.Id, name, hash = Secrets.HashToken(token) }, cancel);
        return TypedResults.Created((string?)null, new IssuedToken(token, name));
    }

    public static bool IsEmail(string? text) =>
        text is { Length: >= 3 and <= 254 } && text.IndexOf('@') is > 0 and var at && at < text.Length - 1
        && !text.Any(c => char.IsControl(c) || char.IsWhiteSpace(c) || char.IsSurrogate(c));

    private sealed record UserRow
    {
        public long Id { get; init; }
        public string PasswordHash { get; init; } = "";
    }
}
