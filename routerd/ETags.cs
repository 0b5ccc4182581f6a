using System.Security.Cryptography;
using System.Text;
using Microsoft.Net.Http.Headers;

namespace Appoxy.Routerd;

/// <summary>
/// Lets callers change only what they have seen: an answer's <c>ETag</c>, sent back as <c>If-Match</c>, stands for the settings, env,
/// scale or routing that the answer showed.
/// </summary>
internal static class ETags
{
    /// <summary>Tags an answer.</summary>
    /// <param name="http">The request that is answered.</param>
    /// <param name="stored">What can be changed, as Postgres holds it.</param>
    public static void Send(HttpContext http, string stored) => http.Response.Headers.ETag = Of(stored);

    /// <summary>Refuses a change of what is not any more as the caller has seen it.</summary>
    /// <exception cref="Problem">412.</exception>
    public static void Require(HttpContext http, string stored)
    {
        if (http.Request.Headers.IfMatch.Count == 0)
            return;
        var now = new EntityTagHeaderValue(Of(stored));
        if (!http.Request.GetTypedHeaders().IfMatch.Any(t => t.Equals(EntityTagHeaderValue.Any) || t.Compare(now, useStrongComparison: true)))
            throw new Problem(412, "It was changed meanwhile; read it again, and change what it is now.");
    }

    // Enough of the hash: a tag is compared with those of the same app alone.
    private static string Of(string stored) => $"\"{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(stored)).AsSpan(0, 12))}\"";
}
