using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Identity;

namespace Appoxy.Routerd.Users;

/// <summary>Passwords and tokens: how they are made, and what is kept of them.</summary>
internal static class Secrets
{
    public const string TokenPrefix = "apx_";
    private const string InvitationPrefix = "inv_";
    private const string CodePrefix = "sic_";
    private const string Alphabet = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    private static readonly PasswordHasher<string> Hasher = new();
    private static readonly string NobodysHash = Hasher.HashPassword("", RandomNumberGenerator.GetHexString(32));

    public static string NewToken() => TokenPrefix + RandomNumberGenerator.GetString(Alphabet, 40);

    public static string NewInvitation() => InvitationPrefix + RandomNumberGenerator.GetString(Alphabet, 40);

    /// <summary>Of a <see cref="SignInCodes"/>.</summary>
    public static string NewCode() => CodePrefix + RandomNumberGenerator.GetString(Alphabet, 40);

    public static string NewPassword() => RandomNumberGenerator.GetString(Alphabet, 20);

    /// <summary>A token, an invitation and a code have enough entropy of their own: a plain hash is safe, and can be looked up.</summary>
    public static byte[] HashToken(string token) => SHA256.HashData(Encoding.UTF8.GetBytes(token));

    public static string HashPassword(string password) => Hasher.HashPassword("", password);

    /// <summary>Takes as long for a user who is not there, or has no password yet, as for one who has.</summary>
    public static bool Verify(string? hash, string password) =>
        Hasher.VerifyHashedPassword("", hash is { Length: > 0 } ? hash : NobodysHash, password) != PasswordVerificationResult.Failed
        && hash is { Length: > 0 };
}
