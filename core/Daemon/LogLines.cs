using System.Globalization;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Logging.Console;

namespace Appoxy.Daemon;

/// <summary>How a daemon writes its own log: a line for people, or a JSON object, for each entry.</summary>
public static class LogLines
{
    public const string Text = "text";
    public const string Json = "json";

    /// <param name="logging">Of the daemon.</param>
    /// <param name="format"><see cref="Text"/> or <see cref="Json"/>; anything else is found by the settings' own check.</param>
    public static void AddLines(this ILoggingBuilder logging, string? format)
    {
        if (format == Json)
        {
            logging.AddJsonConsole(o => (o.IncludeScopes, o.UseUtcTimestamp, o.TimestampFormat) = (true, true, "yyyy-MM-ddTHH:mm:ss.ffffffZ"));
            return;
        }
        logging.AddConsole(o => o.FormatterName = Line.FormatterName);
        logging.Services.AddSingleton<ConsoleFormatter, Line>();
    }

    /// <summary>What is wrong with a format; null if nothing.</summary>
    public static string? Fault(string format) => format is Text or Json ? null : $"logFormat is '{format}': give text or json";

    /// <summary>As the framework's own formatter for one line, and the id of the request that it is about.</summary>
    private sealed class Line() : ConsoleFormatter(FormatterName)
    {
        public const string FormatterName = "appoxy";

        public override void Write<TState>(in LogEntry<TState> entry, IExternalScopeProvider? scopes, TextWriter to)
        {
            var message = entry.Formatter(entry.State, entry.Exception);
            to.Write(DateTime.Now.ToString("yyyy-MM-dd HH:mm:ss ", CultureInfo.InvariantCulture));
            to.Write(entry.LogLevel switch
            {
                LogLevel.Trace => "trce", LogLevel.Debug => "dbug", LogLevel.Information => "info", LogLevel.Warning => "warn",
                LogLevel.Error => "fail", _ => "crit",
            });
            to.Write($": {entry.Category}[{entry.EventId.Id}] {OneLine(message)}");
            if (entry.Exception is { } fault)
                to.Write($" {OneLine(fault.ToString())}");
            scopes?.ForEachScope(static (scope, to) =>
            {
                if (scope is KeyValuePair<string, object?>[] and [{ Key: RequestId.Scope, Value: string id }])
                    to.Write($" request_id={id}");
            }, to);
            to.Write('\n');
        }

        private static string OneLine(string text) => text.ReplaceLineEndings(" ");
    }
}
