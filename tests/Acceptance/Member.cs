using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace Appoxy.Tests;

/// <summary>A user, and the API as this user.</summary>
public sealed class Member(Install install, string email, string token)
{
    public string Email => email;

    public string Token => token;

    /// <summary>A user who is no admin, with a token as an older Appoxy made it: with all the user's rights, and for ever.</summary>
    public static async Task<Member> MakeAsync(Install install, string email)
    {
        var token = "apx_" + RandomNumberGenerator.GetHexString(40);
        var hash = Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(token)));
        await install.SqlAsync($"""
            with u as (insert into users (email, password_hash, role) values ('{email}', '', 'member') returning id)
            insert into tokens (user_id, name, hash) select id, 'test', decode('{hash}', 'hex') from u
            """);
        return new Member(install, email, token);
    }

    /// <summary>A new token of this user's.</summary>
    public async Task<string> TokenAsync(string body) => (await PostAsync("v1/tokens", body)).GetProperty("token").GetString()!;

    public Member With(string other) => new(install, email, other);

    /// <summary>Must succeed.</summary>
    public async Task<JsonElement> PostAsync(string path, string body)
    {
        var (status, text) = await SendAsync(HttpMethod.Post, path, body);
        Assert.True((int)status is >= 200 and < 300, $"{path}: {(int)status} {text}");
        return text.Length == 0 ? default : JsonDocument.Parse(text).RootElement;
    }

    public Task<(HttpStatusCode Status, string Text)> GetAsync(string path) => SendAsync(HttpMethod.Get, path, null);

    public async Task<(HttpStatusCode Status, string Text)> SendAsync(HttpMethod method, string path, string? body, params (string Name, string Value)[] headers)
    {
        using var http = LocalHttp.For($"http://127.0.0.1:{install.ConsolePort}/", TimeSpan.FromSeconds(60));
        using var request = new HttpRequestMessage(method, path);
        if (token.Length > 0)
            request.Headers.Authorization = new("Bearer", token);
        foreach (var (name, value) in headers)
            request.Headers.TryAddWithoutValidation(name, value);
        if (body is not null)
            request.Content = new StringContent(body, Encoding.UTF8, "application/json");
        using var response = await http.SendAsync(request);
        return (response.StatusCode, await response.Content.ReadAsStringAsync());
    }
}
