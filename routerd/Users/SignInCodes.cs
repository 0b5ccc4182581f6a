using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using Appoxy.Routerd.Audits;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Users;

/// <summary>What a CLI asked for when it sent a browser to sign in.</summary>
/// <param name="Challenge">SHA-256, as base64url, of what that CLI alone knows; null where no CLI asks, and the browser gets a session.</param>
/// <param name="Port">Where it listens on the browser's own machine; null where its user carries the code over.</param>
/// <param name="Name">The name of the token that it wants.</param>
internal sealed partial record CliSignIn(string? Challenge, int? Port, string? Name)
{
    public const string DefaultName = "sign-in";

    /// <exception cref="Problem">400: it makes no sense.</exception>
    public CliSignIn Checked()
    {
        if (Challenge is not null && !Digest().IsMatch(Challenge))
            throw Problem.BadRequest("challenge: give the SHA-256 of the verifier, as 43 characters of base64url.");
        if (Challenge is null && (Port is not null || Name is not null))
            throw Problem.BadRequest("port and name go with a challenge.");
        if (Port is < 1024 or > 65535)
            throw Problem.BadRequest("port: give a port from 1024 to 65535.");
        if (Name is not null && !TokenEndpoints.IsName(Name))
            throw Problem.BadRequest("A token's name has 1 to 100 characters.");
        return this;
    }

    [GeneratedRegex("^[A-Za-z0-9_-]{43}$")]
    private static partial Regex Digest();
}

/// <summary>
/// Codes that a browser, or its user, carries to the CLI that it signed in for. A code is good once, for minutes, and only for who knows the
/// verifier: it is worth nothing to whoever else sees it.
/// </summary>
internal static class SignInCodes
{
    private static readonly TimeSpan Lasts = TimeSpan.FromMinutes(5);

    public static async Task<string> IssueAsync(NpgsqlDataSource db, long user, CliSignIn asked, CancellationToken cancel)
    {
        var code = Secrets.NewCode();
        await db.RunAsync("""
            insert into sign_in_codes (hash, user_id, challenge, name, expires_at) values (@hash, @user, @Challenge, @name, now() + @Lasts)
            """, new { hash = Secrets.HashToken(code), user, asked.Challenge, name = asked.Name ?? CliSignIn.DefaultName, Lasts }, cancel);
        return code;
    }

    /// <summary>The user for whom it was made, and the name for the token.</summary>
    /// <exception cref="Problem">401: it is unknown, used, too old or another's. 429.</exception>
    public static async Task<(long User, string Name)> RedeemAsync(
        string? code, string? verifier, HttpContext http, NpgsqlDataSource db, CancellationToken cancel)
    {
        SignIn.Slow(http);
        var found = await db.FirstAsync<CodeRow>("""
            delete from sign_in_codes c using users u
            where c.hash = @hash and u.id = c.user_id and c.expires_at > now() and u.disabled_at is null
            returning c.user_id, u.email, c.challenge, c.name
            """, new { hash = Secrets.HashToken(code ?? "") }, cancel);
        var challenge = Base64Url.EncodeToString(SHA256.HashData(Encoding.UTF8.GetBytes(verifier ?? "")));
        if (found is not null && CryptographicOperations.FixedTimeEquals(Encoding.ASCII.GetBytes(found.Challenge), Encoding.ASCII.GetBytes(challenge)))
            return (found.UserId, found.Name);
        await Audit.AddAsync(db, new AuditRow
        {
            UserId = found?.UserId, UserEmail = found?.Email ?? "", Token = found?.Name ?? "", Operation = "sign in",
            Client = ClientAddress.Of(http).ToString(), Status = 401, Detail = "by a code that is not good",
        }, cancel);
        throw new Problem(401, "This code is unknown, used, too old, or another's.");
    }

    private sealed record CodeRow
    {
        public long UserId { get; init; }
        public string Email { get; init; } = "";
        public string Challenge { get; init; } = "";
        public string Name { get; init; } = "";
    }
}
