using Appoxy.Routerd.Sealing;
using Microsoft.AspNetCore.DataProtection;

namespace Appoxy.Routerd.Users;

/// <summary>
/// Seals what a browser carries from the beginning of a sign-in to its end, by routerd's own key of secrets: a restart meanwhile does no harm,
/// and there is no key ring to keep.
/// </summary>
/// <param name="box">Seals.</param>
/// <param name="purpose">What is sealed for one purpose does not open for another.</param>
internal sealed class OidcState(SecretBox box, string purpose) : IDataProtector
{
    // No column of Postgres, but a place of its own all the same.
    private static readonly SealedColumn Place = new("browsers", "sign_in");

    public OidcState(SecretBox box) : this(box, "")
    {
    }

    public IDataProtector CreateProtector(string purpose1) => new OidcState(box, $"{purpose}\n{purpose1}");

    public byte[] Protect(byte[] plaintext) => box.Seal(Convert.ToBase64String(plaintext), Place, purpose);

    public byte[] Unprotect(byte[] protectedData) => Convert.FromBase64String(box.Open(protectedData, Place, purpose));
}
