using System.Security.Cryptography;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Appoxy.Daemon;

/// <summary>
/// By which one request is known in all logs: the global nginx gives it, and it goes from routerd to droidd and back in each answer.
/// </summary>
public static class RequestId
{
    public const string Header = "X-Request-Id";

    /// <summary>What it is called in the scope of a log line.</summary>
    public const string Scope = "RequestId";

    private const int Longest = 128;
    private static readonly AsyncLocal<string?> current = new();

    /// <summary>Of the request that is answered now; null outside of any.</summary>
    public static string? Current => current.Value;

    /// <summary>Stands before all that may log or answer.</summary>
    public static void UseRequestIds(this IApplicationBuilder app)
    {
        var log = app.ApplicationServices.GetRequiredService<ILoggerFactory>().CreateLogger(typeof(RequestId));
        app.Use(async (http, next) =>
        {
            var sent = http.Request.Headers[Header].ToString();
            var id = IsValid(sent) ? sent : RandomNumberGenerator.GetHexString(32, lowercase: true);
            (http.TraceIdentifier, current.Value) = (id, id);
            // Later, since whoever answers with a fault clears the headers first.
            http.Response.OnStarting(() =>
            {
                http.Response.Headers[Header] = id;
                return Task.CompletedTask;
            });
            using (log.BeginScope(new KeyValuePair<string, object?>[] { new(Scope, id) }))
                await next(http);
        });
    }

    /// <summary>What nginx takes from a load balancer, too. It stands in logs, so that nothing in it may pass for more than an id.</summary>
    internal static bool IsValid(string id) => id.Length is > 0 and <= Longest && id.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-');
}
