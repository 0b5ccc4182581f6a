using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using OpenTelemetry;
using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

namespace Appoxy.Daemon;

/// <summary>
/// Metrics for <c>/metrics</c>, and metrics and traces for an OpenTelemetry collector where one is named: by the standard variables
/// <c>OTEL_EXPORTER_OTLP_…</c>, or by the setting <c>otlp</c>. Without one nothing is traced.
/// </summary>
public static class Telemetry
{
    /// <summary>Meters of our own are called so, followed by what they are about.</summary>
    public const string Meters = "Appoxy.";

    /// <summary>Instruments whose name begins so have the app as a label.</summary>
    private const string ByApp = "appoxy.app.";

    /// <summary>How many apps, times statuses, such an instrument tells apart; it sums up the rest.</summary>
    private const int MostByApp = 10_000;

    // A scrape of so many apps is large.
    private const int LargestScrape = 256 << 20;
    private const string Endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT";
    private const string Protocol = "OTEL_EXPORTER_OTLP_PROTOCOL";

    /// <summary>What is done on its own, beside the requests that the framework traces.</summary>
    public static readonly ActivitySource Source = new("Appoxy");

    /// <summary>Buckets for what a visitor waits for, in seconds.</summary>
    public static readonly InstrumentAdvice<double> Visits = new()
    {
        HistogramBucketBoundaries = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    };

    /// <summary>Buckets for what takes from seconds to an hour.</summary>
    public static readonly InstrumentAdvice<double> Works = new()
    {
        HistogramBucketBoundaries = [0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600],
    };

    /// <param name="builder">Of the daemon.</param>
    /// <param name="service"><c>routerd</c> or <c>droidd</c>.</param>
    /// <param name="meters">Of libraries, beside those of our own.</param>
    public static void AddTelemetry(this WebApplicationBuilder builder, string service, params string[] meters)
    {
        var configuration = builder.Configuration;
        var exports = AddStandardVariables(configuration);
        var telemetry = builder.Services.AddOpenTelemetry()
            .ConfigureResource(r => r.AddService(service, serviceNamespace: "appoxy", serviceVersion: Version, serviceInstanceId: configuration["name"]))
            .WithMetrics(metrics =>
            {
                metrics.AddMeter([Meters + "*", "Microsoft.AspNetCore.Hosting", "System.Runtime", .. meters])
                    .AddView(i => i.Name.StartsWith(ByApp, StringComparison.Ordinal) ? new MetricStreamConfiguration { CardinalityLimit = MostByApp } : null)
                    .AddPrometheusExporter(o => (o.ScopeInfoEnabled, o.MaxScrapeResponseSizeBytes) = (false, LargestScrape));
                if (exports)
                    metrics.AddOtlpExporter();
            });
        if (!exports)
            return;
        telemetry.WithTracing(traces => traces
            .SetSampler(new ParentBasedSampler(new Asked()))
            .AddSource(Source.Name, "System.Net.Http", "Npgsql")
            .AddAspNetCoreInstrumentation(o => o.Filter = http => http.Request.Path.Value is not ("/metrics" or "/healthz" or "/readyz"))
            .AddOtlpExporter());
    }

    /// <summary>A span of our own below the one that <paramref name="parent"/>, a W3C traceparent, names; null where nothing is traced.</summary>
    public static Activity? Begin(string name, string? parent) =>
        ActivityContext.TryParse(parent, null, isRemote: true, out var context) ? Source.StartActivity(name, ActivityKind.Internal, context) : null;

    /// <summary>The span that is open here as a W3C traceparent; null where it is not traced.</summary>
    public static string? Parent => Activity.Current is { Recorded: true, IdFormat: ActivityIdFormat.W3C } span ? span.Id : null;

    /// <summary>What is wrong with a collector's address; null if nothing.</summary>
    public static string? Fault(string otlp) => otlp.Length == 0 || (Uri.TryCreate(otlp, UriKind.Absolute, out var url) && url.Scheme is "http" or "https")
        ? null : $"otlp is '{otlp}': give a collector's address such as http://127.0.0.1:4318, or nothing";

    private static string Version => typeof(Telemetry).Assembly.GetName().Version!.ToString(3);

    /// <summary>Makes the standard variables known to the exporters, which look for them in the daemon's configuration; whether there is a collector.</summary>
    private static bool AddStandardVariables(ConfigurationManager configuration)
    {
        var standard = Environment.GetEnvironmentVariables().Cast<System.Collections.DictionaryEntry>()
            .Where(v => ((string)v.Key).StartsWith("OTEL_", StringComparison.Ordinal)).ToDictionary(v => (string)v.Key, v => (string?)v.Value);
        if (configuration["otlp"] is { Length: > 0 } otlp && !standard.ContainsKey(Endpoint))
        {
            standard[Endpoint] = otlp;
            standard.TryAdd(Protocol, "http/protobuf");
        }
        configuration.AddInMemoryCollection(standard);
        return standard.TryGetValue("OTEL_SDK_DISABLED", out var disabled) && disabled == "true" ? false
            : standard.Keys.Any(k => k.StartsWith("OTEL_EXPORTER_OTLP_", StringComparison.Ordinal) && k.EndsWith("ENDPOINT", StringComparison.Ordinal));
    }

    /// <summary>Traces begin with a request or with a deployment, not with what a daemon asks by itself each second.</summary>
    private sealed class Asked : Sampler
    {
        public override SamplingResult ShouldSample(in SamplingParameters parameters) =>
            new(parameters.Kind is ActivityKind.Server or ActivityKind.Internal ? SamplingDecision.RecordAndSample : SamplingDecision.Drop);
    }
}
