using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace Appoxy.Routerd.Webhooks;

/// <summary>A delivery of GitHub, GitLab, Gitea or Forgejo, as far as it matters here.</summary>
/// <param name="Event"><c>push</c>, <c>ping</c>, or whatever else the host calls it.</param>
/// <param name="Delivery">The host's id of this delivery; null where it sends none.</param>
/// <param name="Branch">The branch pushed to; null for a tag and for other events.</param>
/// <param name="Commit">What the branch is at now; null where it was deleted.</param>
internal sealed record WebhookPush(string Event, string? Delivery, string? Branch, string? Commit)
{
    private const string Heads = "refs/heads/";

    /// <summary>Whether the headers prove that the sender knows the secret; no time tells how much of it is right.</summary>
    public static bool IsSigned(IHeaderDictionary headers, ReadOnlySpan<byte> body, string secret)
    {
        var key = Encoding.UTF8.GetBytes(secret);
        if (headers.TryGetValue("X-Gitlab-Token", out var token))
            // Hashed first, so that both are of one length.
            return CryptographicOperations.FixedTimeEquals(SHA256.HashData(Encoding.UTF8.GetBytes(token.ToString())), SHA256.HashData(key));
        var signature = headers["X-Hub-Signature-256"].ToString() is { Length: > 0 } hub
            ? hub.StartsWith("sha256=", StringComparison.Ordinal) ? hub["sha256=".Length..] : ""
            : headers["X-Gitea-Signature"].ToString() is { Length: > 0 } gitea ? gitea : headers["X-Forgejo-Signature"].ToString();
        if (signature.Length != 64 || !signature.All(char.IsAsciiHexDigit))
            return false;
        return CryptographicOperations.FixedTimeEquals(Convert.FromHexString(signature), HMACSHA256.HashData(key, body));
    }

    /// <summary>Reads a delivery whose signature is right.</summary>
    /// <exception cref="Problem">400: it is no JSON, or a push without what belongs to one.</exception>
    public static WebhookPush Read(IHeaderDictionary headers, string? contentType, ReadOnlyMemory<byte> body)
    {
        var kind = (First(headers, "X-GitHub-Event", "X-Gitea-Event", "X-Forgejo-Event", "X-Gogs-Event", "X-Gitlab-Event") ?? "push") switch
        {
            "Push Hook" => "push",
            var other => other,
        };
        var delivery = First(headers, "X-GitHub-Delivery", "X-Gitea-Delivery", "X-Forgejo-Delivery", "X-Gogs-Delivery", "X-Gitlab-Event-UUID");
        if (kind != "push")
            return new WebhookPush(kind, delivery, null, null);
        // GitHub's default is a form with the JSON in it.
        if (contentType?.StartsWith("application/x-www-form-urlencoded", StringComparison.OrdinalIgnoreCase) == true)
            body = Encoding.UTF8.GetBytes(Encoding.UTF8.GetString(body.Span).Split('&').Where(p => p.StartsWith("payload=", StringComparison.Ordinal))
                .Select(p => WebUtility.UrlDecode(p["payload=".Length..])).FirstOrDefault() ?? "");
        try
        {
            using var json = JsonDocument.Parse(body);
            if (Text(json.RootElement, "ref") is not { } reference || Text(json.RootElement, "after") is not { } after)
                throw Problem.BadRequest("This push has no ref or no after.");
            var commit = SourceRules.IsCommit(after) && after.Any(c => c != '0') ? after : null;
            return new WebhookPush(kind, delivery, reference.StartsWith(Heads, StringComparison.Ordinal) ? reference[Heads.Length..] : null, commit);
        }
        catch (JsonException)
        {
            throw Problem.BadRequest("The body is not valid JSON.");
        }
    }

    private static string? First(IHeaderDictionary headers, params string[] names) =>
        names.Select(n => headers[n].ToString()).FirstOrDefault(v => v.Length is > 0 and <= 100);

    private static string? Text(JsonElement json, string name) =>
        json.ValueKind == JsonValueKind.Object && json.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String
            ? value.GetString() : null;
}
