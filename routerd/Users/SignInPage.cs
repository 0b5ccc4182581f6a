using System.Net;
using System.Text;

namespace Appoxy.Routerd.Users;

/// <summary>The page that a browser ends at when a sign-in for a CLI is done, or one has failed.</summary>
internal static class SignInPage
{
    private static readonly string Page = Read();

    /// <param name="http">Answers it.</param>
    /// <param name="status">The HTTP status.</param>
    /// <param name="title">What happened.</param>
    /// <param name="words">What to do.</param>
    /// <param name="code">What to carry to the CLI; secret.</param>
    public static Task WriteAsync(HttpContext http, int status, string title, string words, string code = "")
    {
        var headers = http.Response.Headers;
        http.Response.StatusCode = status;
        headers.ContentType = "text/html; charset=utf-8";
        headers.CacheControl = "no-store";
        headers["Referrer-Policy"] = "no-referrer";
        headers.ContentSecurityPolicy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
        headers.XContentTypeOptions = "nosniff";
        var page = new StringBuilder(Page).Replace("{title}", WebUtility.HtmlEncode(title)).Replace("{code}", WebUtility.HtmlEncode(code))
            .Replace("{words}", WebUtility.HtmlEncode(words));
        return http.Response.WriteAsync(page.ToString(), http.RequestAborted);
    }

    private static string Read()
    {
        using var stream = typeof(SignInPage).Assembly.GetManifestResourceStream("Appoxy.Routerd.Users.sign-in.html")
            ?? throw new InvalidOperationException("sign-in.html is not embedded");
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }
}
