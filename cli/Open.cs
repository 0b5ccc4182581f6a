using System.ComponentModel;
using System.Diagnostics;

namespace Appoxy.Cli;

/// <summary><c>appoxy open</c>: shows an app in the browser.</summary>
internal static class Open
{
    public static Verb Define()
    {
        var name = Arguments.App();
        return new Verb("open", "Opens an app in the browser, and prints its URL.", "appoxy open shop") { name }.Does(async (call, cancel) =>
        {
            var app = await call.Routerd.GetAsync<App>(Routerd.App(call.Get(name)), cancel);
            if (call.Json)
            {
                Output.Json(json =>
                {
                    json.WriteStartObject();
                    json.WriteString("url", app.Value.Url);
                    json.WriteEndObject();
                });
                return;
            }
            Output.Line(app.Value.Url);
            if (!Console.IsOutputRedirected && Browser.IsHere && Uri.TryCreate(app.Value.Url, UriKind.Absolute, out var url))
                Browser.Open(url);
        });
    }
}

/// <summary>The browser of who sits before this machine.</summary>
internal static class Browser
{
    /// <summary>On a server there is no screen to open anything on.</summary>
    public static bool IsHere => (Variable("DISPLAY") ?? Variable("WAYLAND_DISPLAY")) is not null;

    public static void Open(Uri url)
    {
        if (url.Scheme is not ("http" or "https"))
            return;
        try
        {
            using var browser = Process.Start(new ProcessStartInfo("xdg-open", [url.AbsoluteUri]) { RedirectStandardError = true, RedirectStandardOutput = true });
        }
        catch (Win32Exception)
        {
            Output.Note("there is no xdg-open here to open it with");
        }
    }

    private static string? Variable(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;
}
