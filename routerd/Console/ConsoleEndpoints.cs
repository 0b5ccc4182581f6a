using System.Net;
using Appoxy.Routerd.Users;

namespace Appoxy.Routerd.Console;

/// <summary>The console's first page.</summary>
internal static class ConsoleEndpoints
{
    public static void MapConsole(this WebApplication app)
    {
        var settings = app.Services.GetRequiredService<RouterdSettings>();
        using var stream = typeof(ConsoleEndpoints).Assembly.GetManifestResourceStream("Appoxy.Routerd.Console.index.html")
            ?? throw new InvalidOperationException("index.html is not embedded");
        using var reader = new StreamReader(stream);
        var page = reader.ReadToEnd()
            .Replace("{version}", typeof(ConsoleEndpoints).Assembly.GetName().Version?.ToString(3), StringComparison.Ordinal)
            .Replace("{url}", WebUtility.HtmlEncode(settings.Url("console." + settings.Domain)), StringComparison.Ordinal)
            .Replace("{app}", WebUtility.HtmlEncode(settings.Url("hello." + settings.Domain)), StringComparison.Ordinal);
        app.MapGet("/", (HttpContext http) =>
        {
            http.Response.Headers.ContentSecurityPolicy =
                "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
            http.Response.Headers.XContentTypeOptions = "nosniff";
            return TypedResults.Content(page, "text/html; charset=utf-8");
        }).OpenToAll().ExcludeFromDescription();
    }
}
