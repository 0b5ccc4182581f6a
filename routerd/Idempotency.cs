using System.Security.Claims;
using System.Security.Cryptography;
using System.Text;
using Appoxy.Routerd.Audits;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Authorization;
using Npgsql;

namespace Appoxy.Routerd;

/// <summary>
/// <c>Idempotency-Key</c>: a POST that is sent again with the key of an earlier one is not done again, but answered as that was. Keys
/// belong to a user and are kept for a day. What failed did nothing, and is forgotten: its key can be used again.
/// </summary>
internal sealed class Idempotency(RequestDelegate next, NpgsqlDataSource db, TimeProvider time)
{
    private const string Header = "Idempotency-Key";
    private const int MaxKey = 255;
    private const int MaxAnswer = 256 << 10;
    private static readonly TimeSpan Wait = TimeSpan.FromSeconds(8);
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(100);

    public async Task InvokeAsync(HttpContext http)
    {
        if (!HttpMethods.IsPost(http.Request.Method) || http.Request.Headers[Header] is not { Count: > 0 } keys
            || http.GetEndpoint()?.Metadata.GetMetadata<IAuthorizeData>() is null
            || !http.Request.Path.StartsWithSegments("/v1")
            || !long.TryParse(http.User.FindFirstValue(ClaimTypes.NameIdentifier), out var user)
            // Uploads are known by what is in them.
            || http.Request.Path.Value!.EndsWith("/uploads", StringComparison.Ordinal))
        {
            await next(http);
            return;
        }
        if (keys is not [{ Length: > 0 and <= MaxKey } key] || key.Any(c => c is < ' ' or > '~'))
            throw Problem.BadRequest($"{Header}: give one key of 1 to {MaxKey} printable ASCII characters.");
        var secret = SHA256.HashData(Encoding.UTF8.GetBytes($"{http.Request.Headers.Authorization}\n{http.Request.Cookies[Session.Cookie]}"));
        var request = new { user, key, request = await HashAsync(http, secret) };
        if (!await BeginAsync(request, http.RequestAborted))
        {
            await RepeatAsync(http, request, user, key, request.request, secret);
            return;
        }
        await RunAsync(http, user, key, secret);
    }

    private async Task<bool> BeginAsync(object request, CancellationToken cancel)
    {
        // One that routerd died in the midst of, nobody will end.
        await db.RunAsync("""
            delete from idempotency_keys
            where created_at < now() - interval '1 day' or (user_id = @user and key = @key and status is null and created_at < now() - interval '15 minutes')
            """, request, cancel);
        return await db.RunAsync("""
            insert into idempotency_keys (user_id, key, request) values (@user, @key, @request) on conflict do nothing
            """, request, cancel) == 1;
    }

    private async Task RunAsync(HttpContext http, long user, string key, byte[] secret)
    {
        var body = http.Response.Body;
        using var answer = new MemoryStream();
        http.Response.Body = answer;
        var done = false;
        try
        {
            await next(http);
            done = http.Response.StatusCode is >= 200 and < 300 && answer.Length <= MaxAnswer;
        }
        finally
        {
            http.Response.Body = body;
            // Whether or not the caller still listens.
            using var bound = new CancellationTokenSource(Wait, time);
            if (done)
                await db.RunAsync("""
                    update idempotency_keys set status = @status, location = @location, answer = @closed where user_id = @user and key = @key
                    """, new { user, key, status = http.Response.StatusCode, location = http.Response.Headers.Location.FirstOrDefault(),
                    closed = Close(secret, answer.ToArray()) }, bound.Token);
            else
                await db.RunAsync("delete from idempotency_keys where user_id = @user and key = @key and status is null", new { user, key }, bound.Token);
        }
        answer.Position = 0;
        await answer.CopyToAsync(body, http.RequestAborted);
    }

    private async Task RepeatAsync(HttpContext http, object request, long user, string key, byte[] hash, byte[] secret)
    {
        var start = time.GetTimestamp();
        while (true)
        {
            var earlier = await db.FirstAsync<Row>("select request, status, location, answer from idempotency_keys where user_id = @user and key = @key",
                request, http.RequestAborted);
            if (earlier is null)
            {
                // The first one has failed, so that this one is the first now.
                if (!await BeginAsync(request, http.RequestAborted))
                    continue;
                await RunAsync(http, user, key, secret);
                return;
            }
            if (!CryptographicOperations.FixedTimeEquals(earlier.Request, hash))
                throw new Problem(422, $"This {Header} was used for another request, or with another token.");
            if (earlier.Status is { } status)
            {
                http.Response.StatusCode = status;
                if (earlier.Location is not null)
                    http.Response.Headers.Location = earlier.Location;
                http.Response.Headers["Idempotency-Replayed"] = "true";
                if (http.Features.Get<AuditEntry>() is { } entry)
                    entry.Detail = "answered as before, by its Idempotency-Key";
                var answer = Open(secret, earlier.Answer);
                if (answer.Length > 0)
                    http.Response.ContentType = "application/json; charset=utf-8";
                await http.Response.Body.WriteAsync(answer, http.RequestAborted);
                return;
            }
            if (time.GetElapsedTime(start) > Wait)
                throw Problem.Conflict($"The request with this {Header} is still under way; try again in a moment.");
            await Task.Delay(Poll, time, http.RequestAborted);
        }
    }

    private static async Task<byte[]> HashAsync(HttpContext http, byte[] secret)
    {
        http.Request.EnableBuffering();
        using var hash = IncrementalHash.CreateHMAC(HashAlgorithmName.SHA256, secret);
        hash.AppendData(Encoding.UTF8.GetBytes($"{http.Request.Path}{http.Request.QueryString}\n"));
        var buffer = new byte[16 << 10];
        while (await http.Request.Body.ReadAsync(buffer, http.RequestAborted) is > 0 and var read)
            hash.AppendData(buffer, 0, read);
        http.Request.Body.Position = 0;
        return hash.GetHashAndReset();
    }

    /// <summary>Answers may hold what is shown once, such as a new token: only who has the caller's token can read them again.</summary>
    private static byte[] Close(byte[] secret, byte[] text)
    {
        var closed = new byte[AesGcm.NonceByteSizes.MaxSize + AesGcm.TagByteSizes.MaxSize + text.Length];
        var (nonce, tag, rest) = Parts(closed);
        RandomNumberGenerator.Fill(nonce);
        using var aes = new AesGcm(secret, tag.Count);
        aes.Encrypt(nonce, text, rest, tag);
        return closed;
    }

    private static byte[] Open(byte[] secret, byte[] closed)
    {
        var (nonce, tag, rest) = Parts(closed);
        var text = new byte[rest.Count];
        using var aes = new AesGcm(secret, tag.Count);
        aes.Decrypt(nonce, rest, tag, text);
        return text;
    }

    private static (ArraySegment<byte> Nonce, ArraySegment<byte> Tag, ArraySegment<byte> Text) Parts(byte[] closed)
    {
        var (nonce, tag) = (AesGcm.NonceByteSizes.MaxSize, AesGcm.TagByteSizes.MaxSize);
        return (new(closed, 0, nonce), new(closed, nonce, tag), new(closed, nonce + tag, closed.Length - nonce - tag));
    }

    private sealed record Row
    {
        public byte[] Request { get; init; } = [];
        public int? Status { get; init; }
        public string? Location { get; init; }
        public byte[] Answer { get; init; } = [];
    }
}
