using System.Buffers.Text;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;

namespace Appoxy.Cluster;

/// <summary>
/// What a new machine is given: where the control machine is, which CA it must have, and the secret that opens the door once. By the
/// CA's fingerprint the newcomer knows whom it talks to before it says the secret.
/// </summary>
/// <param name="Control">As <c>https://192.0.2.1:8443</c>.</param>
/// <param name="Fingerprint">SHA-256 of the CA's certificate (DER), in hex.</param>
/// <param name="Secret">Secret.</param>
public sealed record JoinToken(string Control, string Fingerprint, string Secret)
{
    private const string Prefix = "apj1";
    private const string Alphabet = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";

    public static JoinToken New(string control, string fingerprint) => new(control, fingerprint, RandomNumberGenerator.GetString(Alphabet, 40));

    /// <summary>What is kept of it: it has enough entropy of its own for a plain hash.</summary>
    public static byte[] Hash(string secret) => SHA256.HashData(Encoding.UTF8.GetBytes(secret));

    /// <summary>As it is written down: <c>apj1.address.fingerprint.secret</c>.</summary>
    public string Text => $"{Prefix}.{Base64Url.EncodeToString(Encoding.UTF8.GetBytes(Control))}.{Fingerprint}.{Secret}";

    /// <summary>Without the secret, so that no log has it.</summary>
    public override string ToString() => $"join token for {Control}";

    public static bool TryParse(string text, [NotNullWhen(true)] out JoinToken? token)
    {
        token = null;
        if (text.Length > 1000 || text.Trim().Split('.') is not [Prefix, var address, { Length: 64 } fingerprint, { Length: 40 } secret]
            || !fingerprint.All(char.IsAsciiHexDigitLower) || !secret.All(char.IsAsciiLetterOrDigit))
            return false;
        try
        {
            var control = Encoding.UTF8.GetString(Base64Url.DecodeFromChars(address));
            if (ClusterSettings.IsAddress(control))
                token = new JoinToken(control, fingerprint, secret);
        }
        catch (FormatException)
        {
            // No token.
        }
        return token is not null;
    }
}
