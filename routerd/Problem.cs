using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.AspNetCore.Diagnostics;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.WebUtilities;

namespace Appoxy.Routerd;

/// <summary>An answer that is not what was asked for, as RFC 9457 problem+json.</summary>
/// <param name="status">The HTTP status.</param>
/// <param name="detail">One clear line for the caller.</param>
public sealed class Problem(int status, string detail) : Exception(detail)
{
    public int Status { get; } = status;

    public static Problem BadRequest(string detail) => new(400, detail);

    public static Problem Forbidden(string detail) => new(403, detail);

    public static Problem NotFound(string detail) => new(404, detail);

    public static Problem Conflict(string detail) => new(409, detail);

    public static Problem TooMany(string detail) => new(429, detail);

    public static Problem Unavailable(string detail) => new(503, detail);
}

/// <summary>Turns exceptions and empty error answers into problem+json; what it does not know is a 500 without any inner detail.</summary>
internal sealed partial class ProblemWriter(ILogger<ProblemWriter> log) : IExceptionHandler
{
    public async ValueTask<bool> TryHandleAsync(HttpContext http, Exception exception, CancellationToken cancel)
    {
        var (status, detail) = exception switch
        {
            Problem problem => (problem.Status, problem.Message),
            BadHttpRequestException { InnerException: JsonException json } => (400, Words(json)),
            BadHttpRequestException bad => (bad.StatusCode, Words(bad)),
            JsonException json => (400, Words(json)),
            // Of the framework, for a charset that there is not.
            InvalidOperationException { InnerException: ArgumentException } when exception.Message.StartsWith("Unable to read the request as JSON",
                StringComparison.Ordinal) => (415, "The body must be JSON in UTF-8."),
            _ when Outage.IsPostgres(exception) =>
                (503, "The database can't be used right now; running apps keep serving. Try again in a moment."),
            _ when Outage.IsRedis(exception) => (503, "Redis can't be reached; running apps keep serving. Try again in a moment."),
            OperationCanceledException when http.RequestAborted.IsCancellationRequested => (499, "The caller went away."),
            _ => (500, "Something failed here; the log of routerd has it."),
        };
        if (status == 500)
            LogFailed(log, exception, http.Request.Method, http.GetEndpoint()?.DisplayName);
        Outage.Count(exception);
        http.Response.StatusCode = status;
        await WriteAsync(http, detail);
        return true;
    }

    /// <summary>Gives a body to an answer of the framework's that has none: unknown path, wrong method, no token, no right.</summary>
    public static Task WriteStatusAsync(StatusCodeContext context)
    {
        var http = context.HttpContext;
        return WriteAsync(http, http.Response.StatusCode switch
        {
            401 => "This needs a valid token, sent as Authorization: Bearer apx_…",
            403 => "This is for admins.",
            404 => "There is nothing at this address.",
            405 => $"This address does not take {http.Request.Method}.",
            415 => "The body must be JSON, sent with Content-Type: application/json.",
            429 => "Too many calls; Retry-After tells how many seconds to wait.",
            var status => ReasonPhrases.GetReasonPhrase(status) + ".",
        });
    }

    // Written here rather than by IProblemDetailsService, which sends nothing to a caller that accepts text only.
    private static Task WriteAsync(HttpContext http, string detail)
    {
        var status = http.Response.StatusCode;
        if (status is 429 or 503 && http.Response.Headers.RetryAfter.Count == 0)
            http.Response.Headers.RetryAfter = "5";
        var body = new ProblemDetails { Type = "about:blank", Title = ReasonPhrases.GetReasonPhrase(status), Status = status,
            Detail = detail, Extensions = { ["requestId"] = http.TraceIdentifier } };
        return http.Response.WriteAsJsonAsync(body, ProblemJson.Readable.ProblemDetails, "application/problem+json");
    }

    private static string Words(JsonException e)
    {
        var at = e.Path is { Length: > 1 } path ? " at " + path : "";
        if (e.Message.Contains("could not be mapped to any .NET member", StringComparison.Ordinal))
            return $"The body has a member that is not known here{at}.";
        if (e.Message.Contains("could not be converted to", StringComparison.Ordinal))
            return $"The body has a value of the wrong type{at}.";
        return e.Message.Contains("uplicate", StringComparison.Ordinal) ? $"The body has a member twice{at}."
            : $"The body is not valid JSON{at}.";
    }

    private static string Words(BadHttpRequestException e) => e.StatusCode switch
    {
        400 when e.Message.StartsWith("Implicit body", StringComparison.Ordinal)
            || e.Message.Contains("not provided from body", StringComparison.Ordinal)
            => "This request needs a JSON body.",
        400 when e.Message.StartsWith("Failed to bind parameter", StringComparison.Ordinal)
            && e.Message.Split('"') is [_, var name, _, var value, _]
            => $"'{value}' is no valid {JsonNamingPolicy.CamelCase.ConvertName(name.Split(' ')[^1])}.",
        413 => "The body is too long.",
        415 => "The body must be JSON, sent with Content-Type: application/json.",
        _ => e.Message,
    };

    [LoggerMessage(Level = LogLevel.Error, Message = "{Method} {Endpoint} failed")]
    private static partial void LogFailed(ILogger log, Exception e, string method, string? endpoint);
}

[JsonSerializable(typeof(ProblemDetails))]
internal sealed partial class ProblemJson : JsonSerializerContext
{
    /// <summary>Leaves quotes and the like readable: problems are shown in terminals, never put into HTML.</summary>
    public static readonly ProblemJson Readable = new(new JsonSerializerOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
}
