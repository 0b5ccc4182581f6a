using System.Buffers;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.Features;

namespace Appoxy.Routerd.Git;

/// <summary>
/// Runs <c>git http-backend</c> for one request, as a web server runs a CGI program: an environment of its own, both bodies passed on
/// as they come, and bounded in time and size.
/// </summary>
internal static class GitBackend
{
    private const int MaxHeader = 16 << 10;
    private const long MaxFetchBody = 16 << 20;

    /// <param name="http">The request.</param>
    /// <param name="repositories">Where they lie.</param>
    /// <param name="uid">The app whose repository is asked for.</param>
    /// <param name="path">What of it, as <c>/info/refs</c>.</param>
    /// <param name="caller">Who asks.</param>
    /// <param name="more">More environment, for hooks.</param>
    /// <param name="limit">How long it may take.</param>
    /// <param name="cancel">
    /// The caller went away. A push that has come whole goes on all the same, since what it deploys does.
    /// </param>
    public static async Task RunAsync(
        HttpContext http, GitRepositories repositories, string uid, string path, Caller caller, IReadOnlyDictionary<string, string>? more,
        TimeSpan limit, CancellationToken cancel)
    {
        var pushes = path == "/git-receive-pack";
        var most = pushes ? repositories.PushBytes + (1 << 20) : MaxFetchBody;
        http.Features.GetRequiredFeature<IHttpMaxRequestBodySizeFeature>().MaxRequestBodySize = null;
        if (http.Request.ContentLength > most)
            throw new Problem(413, $"A push may have {repositories.PushLimit} at most.");
        http.Features.GetRequiredFeature<IHttpResponseBodyFeature>().DisableBuffering();
        using var git = repositories.Start(["http-backend"], [.. Environment(http, repositories, uid, path, caller), .. more ?? new Dictionary<string, string>()], input: true);
        using var timeout = new CancellationTokenSource(limit);
        await using var killed = timeout.Token.Register(() => Kill(git));
        var gone = cancel.Register(() => Kill(git));
        try
        {
            var faults = DrainAsync(git.StandardError.BaseStream);
            var sent = Task.Run(async () =>
            {
                await SendAsync(http.Request.Body, git, most, cancel);
                if (pushes)
                    await gone.DisposeAsync();
            }, CancellationToken.None);
            await AnswerAsync(http, git.StandardOutput.BaseStream, timeout.Token);
            await sent.WaitAsync(timeout.Token);
            await faults;
            await git.WaitForExitAsync(timeout.Token);
        }
        finally
        {
            await gone.DisposeAsync();
            Kill(git);
        }
    }

    private static Dictionary<string, string> Environment(
        HttpContext http, GitRepositories repositories, string uid, string path, Caller caller)
    {
        var request = http.Request;
        var environment = new Dictionary<string, string>
        {
            ["GIT_PROJECT_ROOT"] = repositories.Root,
            ["GIT_HTTP_EXPORT_ALL"] = "1",
            ["GATEWAY_INTERFACE"] = "CGI/1.1",
            ["SERVER_PROTOCOL"] = "HTTP/1.1",
            ["REQUEST_METHOD"] = request.Method,
            ["PATH_INFO"] = $"/{uid}.git{path}",
            ["QUERY_STRING"] = path == "/info/refs" ? "service=" + request.Query["service"] : "",
            ["REMOTE_USER"] = caller.Email,
            ["REMOTE_ADDR"] = "127.0.0.1",
        };
        if (request.ContentType is { Length: < 200 } type && type.All(c => char.IsAsciiLetterOrDigit(c) || c is '/' or '-' or '.' or '+'))
            environment["CONTENT_TYPE"] = type;
        if (request.ContentLength is { } length)
            environment["CONTENT_LENGTH"] = length.ToString(CultureInfo.InvariantCulture);
        if (request.Headers.ContentEncoding == "gzip")
            environment["HTTP_CONTENT_ENCODING"] = "gzip";
        if (request.Headers["Git-Protocol"].ToString() is { Length: > 0 and < 100 } protocol
            && protocol.All(c => char.IsAsciiLetterOrDigit(c) || c is '=' or ':' or '-'))
            environment["GIT_PROTOCOL"] = protocol;
        return environment;
    }

    private static async Task SendAsync(Stream body, Process git, long most, CancellationToken cancel)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(64 << 10);
        var input = git.StandardInput.BaseStream;
        var takes = true;
        try
        {
            for (var sent = 0L; await body.ReadAsync(buffer, cancel) is > 0 and var count;)
            {
                if ((sent += count) > most)
                    throw new IOException("the request is too long");
                if (!takes)
                    continue;
                try
                {
                    await input.WriteAsync(buffer.AsMemory(0, count), cancel);
                }
                catch (IOException)
                {
                    // git has refused it and gone; the client reads the answer only when it has sent all.
                    takes = false;
                }
            }
            input.Close();
        }
        catch (Exception e) when (e is IOException or OperationCanceledException or BadHttpRequestException)
        {
            Kill(git);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private static async Task AnswerAsync(HttpContext http, Stream output, CancellationToken cancel)
    {
        var buffer = new byte[MaxHeader];
        var (has, end) = (0, -1);
        while ((end = HeaderEnd(buffer.AsSpan(0, has))) < 0)
        {
            var count = has == MaxHeader ? 0 : await output.ReadAsync(buffer.AsMemory(has), cancel);
            if (count == 0)
                throw new Problem(502, "git broke off; what was pushed may be more than is taken here, or the connection ended.");
            has += count;
        }
        foreach (var line in Encoding.Latin1.GetString(buffer, 0, end).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
        {
            var colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon <= 0)
                continue;
            var (name, value) = (line[..colon], line[(colon + 1)..].Trim());
            if (name.Equals("Status", StringComparison.OrdinalIgnoreCase))
                http.Response.StatusCode = int.Parse(value.Split(' ')[0], NumberStyles.None, CultureInfo.InvariantCulture);
            else if (!name.Equals("Content-Length", StringComparison.OrdinalIgnoreCase))
                http.Response.Headers[name] = value;
        }
        http.Response.Headers["X-Accel-Buffering"] = "no";
        var part = buffer.AsMemory(end, has - end);
        for (var reads = true; ; part = buffer.AsMemory(0, await output.ReadAsync(buffer, cancel)))
        {
            if (part.Length == 0 && has == 0)
                return;
            has = 0;
            // A pusher who has gone is no reason to stop: git ends when the hook does.
            if (!reads || part.Length == 0)
                continue;
            try
            {
                await http.Response.Body.WriteAsync(part, cancel);
                await http.Response.Body.FlushAsync(cancel);
            }
            catch (Exception e) when (e is IOException or OperationCanceledException && !cancel.IsCancellationRequested)
            {
                reads = false;
            }
        }
    }

    private static int HeaderEnd(ReadOnlySpan<byte> text)
    {
        if (text.IndexOf("\r\n\r\n"u8) is >= 0 and var at)
            return at + 4;
        return text.IndexOf("\n\n"u8) is >= 0 and var bare ? bare + 2 : -1;
    }

    /// <summary>What git says on its standard error is for the pusher and reaches him by the protocol; here it would only fill a pipe.</summary>
    private static async Task DrainAsync(Stream errors)
    {
        var buffer = new byte[4096];
        while (await errors.ReadAsync(buffer) > 0)
        {
        }
    }

    private static void Kill(Process git)
    {
        try
        {
            git.Kill(entireProcessTree: true);
        }
        catch (InvalidOperationException)
        {
            // It has ended.
        }
    }
}
