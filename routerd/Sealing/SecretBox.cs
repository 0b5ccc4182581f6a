using System.Security.Cryptography;
using System.Text;

namespace Appoxy.Routerd.Sealing;

/// <summary>
/// Seals secrets for Postgres by AES-256-GCM. An envelope is: 1 (its form), the key's id, a random nonce, the tag, the text. Table, column and
/// row are authenticated with it, so that a value that was copied to another row does not open there.
/// </summary>
internal sealed class SecretBox(SecretKeys keys)
{
    public const int IdBytes = 8;
    private const byte Form = 1;
    private const int NonceAt = 1 + IdBytes;
    private const int TagAt = NonceAt + 12;
    private const int TextAt = TagAt + 16;

    /// <param name="secret">What to seal.</param>
    /// <param name="column">Where it is to be kept.</param>
    /// <param name="row">The row's <see cref="SealedColumn.Row"/>.</param>
    /// <exception cref="Problem">503: there is no key.</exception>
    public byte[] Seal(string secret, SealedColumn column, params string[] row)
    {
        var key = keys.Newest;
        var text = Encoding.UTF8.GetBytes(secret);
        var sealed_ = new byte[TextAt + text.Length];
        sealed_[0] = Form;
        Convert.FromHexString(key.Id).CopyTo(sealed_, 1);
        RandomNumberGenerator.Fill(sealed_.AsSpan(NonceAt, TagAt - NonceAt));
        using var aes = new AesGcm(key.Key, TextAt - TagAt);
        aes.Encrypt(sealed_.AsSpan(NonceAt, TagAt - NonceAt), text, sealed_.AsSpan(TextAt), sealed_.AsSpan(TagAt, TextAt - TagAt), Place(column, row));
        return sealed_;
    }

    /// <exception cref="Problem">503: the key is missing, or the envelope is not this row's.</exception>
    public string Open(byte[] envelope, SealedColumn column, params string[] row)
    {
        if (envelope.Length < TextAt || envelope[0] != Form)
            throw Problem.Unavailable($"A secret in {column.Table} is damaged; set it again.");
        var id = Convert.ToHexStringLower(envelope, 1, IdBytes);
        var key = keys.Find(id) ?? throw keys.Fault($"has no key {id}, which a secret was sealed with");
        var text = new byte[envelope.Length - TextAt];
        using var aes = new AesGcm(key.Key, TextAt - TagAt);
        try
        {
            aes.Decrypt(envelope.AsSpan(NonceAt, TagAt - NonceAt), envelope.AsSpan(TextAt), envelope.AsSpan(TagAt, TextAt - TagAt), text,
                Place(column, row));
        }
        catch (AuthenticationTagMismatchException)
        {
            throw Problem.Unavailable($"A secret in {column.Table} was altered or is another row's; set it again.");
        }
        return Encoding.UTF8.GetString(text);
    }

    // The parts have no NUL, which Postgres takes in no text: no two places read alike.
    private static byte[] Place(SealedColumn column, string[] row) =>
        Encoding.UTF8.GetBytes($"appoxy\0{column.Table}\0{column.Name}\0{string.Join('\0', row)}");
}
