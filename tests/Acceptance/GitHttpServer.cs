using System.Net;
using System.Text;
using CliWrap;

namespace Appoxy.Tests;

/// <summary>git's own http-backend behind basic auth.</summary>
internal sealed class GitHttpServer : IAsyncDisposable
{
    private readonly HttpListener listener = new();
    private readonly Task running;
    private readonly string root;
    private readonly string authorization;

    public GitHttpServer(string root, string password)
    {
        (this.root, Port) = (root, Install.FreePort());
        authorization = "Basic " + Convert.ToBase64String(Encoding.UTF8.GetBytes("x:" + password));
        listener.Prefixes.Add($"http://127.0.0.1:{Port}/");
        listener.Start();
        running = RunAsync();
    }

    public int Port { get; }

    public int Authorized { get; private set; }

    /// <summary>Looks at the machine while git asks.</summary>
    public Func<string>? Seen { get; set; }

    public string Sightings { get; private set; } = "";

    private async Task RunAsync()
    {
        while (listener.IsListening)
        {
            HttpListenerContext http;
            try
            {
                http = await listener.GetContextAsync();
            }
            catch (Exception e) when (e is HttpListenerException or ObjectDisposedException)
            {
                return;
            }
            if (http.Request.Headers["Authorization"] != authorization)
            {
                http.Response.AddHeader("WWW-Authenticate", "Basic realm=\"test\"");
                http.Response.StatusCode = 401;
                http.Response.Close();
                continue;
            }
            Authorized++;
            Sightings += Seen?.Invoke();
            await AnswerAsync(http);
        }
    }

    private async Task AnswerAsync(HttpListenerContext http)
    {
        using var output = new MemoryStream();
        await CliWrap.Cli.Wrap("git").WithArguments("http-backend").WithEnvironmentVariables(env => env
                .Set("GIT_PROJECT_ROOT", root).Set("GIT_HTTP_EXPORT_ALL", "1").Set("PATH_INFO", http.Request.Url!.AbsolutePath)
                .Set("QUERY_STRING", http.Request.Url.Query.TrimStart('?')).Set("REQUEST_METHOD", http.Request.HttpMethod)
                .Set("CONTENT_TYPE", http.Request.ContentType).Set("GIT_PROTOCOL", http.Request.Headers["Git-Protocol"])
                .Set("HTTP_CONTENT_ENCODING", http.Request.Headers["Content-Encoding"]))
            .WithStandardInputPipe(PipeSource.FromStream(http.Request.InputStream)).WithStandardOutputPipe(PipeTarget.ToStream(output))
            .WithValidation(CommandResultValidation.None).ExecuteAsync();
        var bytes = output.ToArray();
        var end = bytes.AsSpan().IndexOf("\r\n\r\n"u8);
        foreach (var line in Encoding.ASCII.GetString(bytes, 0, end).Split("\r\n"))
        {
            var (name, value) = (line[..line.IndexOf(':', StringComparison.Ordinal)], line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim());
            if (name == "Status")
                http.Response.StatusCode = int.Parse(value[..3], System.Globalization.CultureInfo.InvariantCulture);
            else
                http.Response.AddHeader(name, value);
        }
        await http.Response.OutputStream.WriteAsync(bytes.AsMemory(end + 4));
        http.Response.Close();
    }

    public async ValueTask DisposeAsync()
    {
        listener.Stop();
        await running;
        listener.Close();
    }
}
