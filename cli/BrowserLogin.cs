using System.Buffers.Text;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;

namespace Appoxy.Cli;

/// <summary>
/// <c>appoxy login --sso</c>: a browser signs in, and comes back with a code to a port of ours on the loopback address; where there is no
/// browser here, its user carries the code over. Only who knows the verifier, which never leaves us, gets a token for a code.
/// </summary>
internal static class BrowserLogin
{
    private const int MaxLine = 32 << 10;
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(10);
    private static readonly TimeSpan LinePatience = TimeSpan.FromSeconds(5);

    /// <summary>The token.</summary>
    /// <exception cref="Failure">Nobody has signed in, or nobody who may come in.</exception>
    public static async Task<string> RunAsync(Routerd routerd, string name, bool noBrowser, CancellationToken cancel)
    {
        var verifier = Base64Url.EncodeToString(RandomNumberGenerator.GetBytes(32));
        var challenge = Base64Url.EncodeToString(SHA256.HashData(Encoding.ASCII.GetBytes(verifier)));
        var path = $"v1/oidc/sign-in?challenge={challenge}&name={Uri.EscapeDataString(name)}";
        // Else it would be a browser that is told that there is no such thing.
        await routerd.RequireRedirectAsync(path, cancel);
        var code = noBrowser || !Browser.IsHere ? AskForCode(new Uri(routerd.Url, path)) : await WaitForCodeAsync(routerd.Url, path, cancel);
        return (await routerd.PostAsync<NewToken, IssuedToken>("v1/tokens", new NewToken(Code: code, Verifier: verifier), cancel)).Value.Token;
    }

    private static string AskForCode(Uri address)
    {
        Output.Note("visit this address with a browser, on whatever machine, and sign in there:");
        Console.Error.WriteLine(address.AbsoluteUri);
        return Secret.Read("The code that it shows then: ").Trim();
    }

    private static async Task<string> WaitForCodeAsync(Uri url, string path, CancellationToken cancel)
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var address = new Uri(url, $"{path}&port={((IPEndPoint)listener.LocalEndpoint).Port}");
        Output.Note("sign in by the browser that opens; or else visit this address on this machine:");
        Console.Error.WriteLine(address.AbsoluteUri);
        Browser.Open(address);
        using var bounded = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bounded.CancelAfter(Patience);
        try
        {
            while (true)
            {
                using var client = await listener.AcceptTcpClientAsync(bounded.Token);
                if (await AnswerAsync(client, bounded.Token) is var (code, error))
                    return code ?? throw new Failure(ExitCodes.NotAllowed, $"not logged in: {error}");
            }
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new Failure(ExitCodes.Failed, $"nobody has signed in within {Output.Span(Patience)}");
        }
    }

    /// <summary>What a browser came back with; null where it wants something else, as its icon.</summary>
    private static async Task<(string? Code, string? Error)?> AnswerAsync(TcpClient client, CancellationToken cancel)
    {
        using var bounded = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bounded.CancelAfter(LinePatience);
        try
        {
            await using var stream = client.GetStream();
            var asked = await RequestLineAsync(stream, bounded.Token);
            var query = asked.Split(' ') is ["GET", ['/', '?', .. var text], ..] ? text.Split('&').Select(p => p.Split('=', 2))
                .Where(p => p.Length == 2).DistinctBy(p => p[0]).ToDictionary(p => p[0], p => Uri.UnescapeDataString(p[1])) : [];
            var (code, error) = (query.GetValueOrDefault("code"), query.GetValueOrDefault("error"));
            var (status, words) = code is not null ? ("200 OK", "You are signed in. Close this page, and go on in the terminal.")
                : error is not null ? ("200 OK", "Not signed in: " + error) : ("404 Not Found", "There is nothing at this address.");
            var body = $"<!doctype html><meta charset=utf-8><title>Appoxy</title><p style='font: 16px system-ui; margin: 3rem'>{WebUtility.HtmlEncode(words)}";
            await stream.WriteAsync(Encoding.UTF8.GetBytes($"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nCache-Control: no-store\r\n"
                + $"Content-Length: {Encoding.UTF8.GetByteCount(body)}\r\nConnection: close\r\n\r\n{body}"), bounded.Token);
            return code is null && error is null ? null : (code, error);
        }
        catch (Exception e) when (e is IOException || (e is OperationCanceledException && !cancel.IsCancellationRequested))
        {
            return null;
        }
    }

    private static async Task<string> RequestLineAsync(NetworkStream stream, CancellationToken cancel)
    {
        var bytes = new byte[MaxLine];
        var length = 0;
        // To the header's end: a connection that is closed with something unread is reset, and the browser shows nothing.
        while (length < MaxLine && await stream.ReadAsync(bytes.AsMemory(length), cancel) is > 0 and var read)
        {
            length += read;
            if (bytes.AsSpan(0, length).EndsWith("\r\n\r\n"u8))
                break;
        }
        return Encoding.ASCII.GetString(bytes, 0, length).Split("\r\n")[0];
    }
}
