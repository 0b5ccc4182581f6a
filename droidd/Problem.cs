using System.Text.Json;
using Appoxy.Droidd.Builds;
using Appoxy.Droidd.Isolation;
using Docker.DotNet;
using Microsoft.AspNetCore.Diagnostics;

namespace Appoxy.Droidd;

/// <summary>An answer that is not what was asked for, as RFC 9457 problem+json.</summary>
/// <param name="status">The HTTP status.</param>
/// <param name="detail">One clear line for the caller.</param>
public sealed class Problem(int status, string detail) : Exception(detail)
{
    public int Status { get; } = status;
}

/// <summary>Turns exceptions into problem+json; what it does not know is a 500 without any inner detail.</summary>
internal sealed partial class ProblemWriter(IProblemDetailsService problems, ILogger<ProblemWriter> log) : IExceptionHandler
{
    public async ValueTask<bool> TryHandleAsync(HttpContext http, Exception exception, CancellationToken cancel)
    {
        var (status, detail) = exception switch
        {
            Problem problem => (problem.Status, problem.Message),
            IsolationException closed => (503, closed.Message + "."),
            BadHttpRequestException { InnerException: JsonException } or JsonException => (400, "The body is not the JSON that is expected here."),
            BadHttpRequestException bad => (bad.StatusCode, bad.Message),
            DockerApiException docker => (502, $"Docker refused: {DockerFault.Words(docker)}"),
            IOException full when DockerFault.IsDiskFull(full.Message) => (507, "The droid-server's disk is full."),
            HttpRequestException or TimeoutException => (503, "Docker can't be reached; running droids keep serving."),
            OperationCanceledException when http.RequestAborted.IsCancellationRequested => (499, "The caller went away."),
            _ => (500, "Something failed here; the log of droidd has it."),
        };
        if (status == 500)
            LogFault(log, http.Request.Method, http.Request.Path, exception);
        http.Response.StatusCode = status;
        return await problems.TryWriteAsync(new() { HttpContext = http, ProblemDetails = { Status = status, Detail = detail } });
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "{Method} {Path} failed")]
    private static partial void LogFault(ILogger log, string method, string path, Exception fault);
}
