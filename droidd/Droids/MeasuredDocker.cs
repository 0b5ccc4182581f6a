using System.Diagnostics;
using System.Diagnostics.Metrics;
using Appoxy.Daemon;
using Docker.DotNet.Handler.Abstractions;
using Docker.DotNet.Unix;

namespace Appoxy.Droidd.Droids;

/// <summary>Docker's client over a unix socket, with each call measured and what came of it counted.</summary>
internal sealed class MeasuredDocker : IDockerHandlerFactory<UnixSocketTransportOptions>
{
    private static readonly IDockerHandlerFactory<UnixSocketTransportOptions> inner = DockerHandlerFactory.Instance;

    public ResolvedTransport CreateHandler(ResolvedClientOptions options, ILogger logger) => Measured(inner.CreateHandler(options, logger));

    public ResolvedTransport CreateHandler(UnixSocketTransportOptions transport, ResolvedClientOptions options, ILogger logger) =>
        Measured(inner.CreateHandler(transport, options, logger));

    public Task<WriteClosableStream> HijackStreamAsync(HttpContent content) => inner.HijackStreamAsync(content);

    private static ResolvedTransport Measured(ResolvedTransport transport) => transport with { Handler = new Measure(transport.Handler) };

    private sealed class Measure(HttpMessageHandler handler) : DelegatingHandler(handler)
    {
        private static readonly Histogram<double> calls = new Meter(Telemetry.Meters + "Docker").CreateHistogram<double>("appoxy.docker.call.duration", "s",
            "Calls of Docker until its answer begins: outcome is ok, a class of statuses, cancelled (as one is that takes too long), or unreachable.",
            null, Telemetry.Visits);

        // Last parts of paths; others are names.
        private static readonly HashSet<string> words =
        [
            "json", "start", "stop", "kill", "restart", "pause", "unpause", "create", "rename", "update", "wait", "logs", "archive", "load", "get", "tag", "push",
            "connect", "disconnect", "prune", "events", "info", "version", "_ping", "df", "build", "attach", "exec",
        ];

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancel)
        {
            var (began, outcome) = (Stopwatch.GetTimestamp(), "unreachable");
            try
            {
                var response = await base.SendAsync(request, cancel);
                outcome = (int)response.StatusCode < 400 ? "ok" : VisitLog.ClassOf((int)response.StatusCode);
                return response;
            }
            catch (OperationCanceledException)
            {
                outcome = "cancelled";
                throw;
            }
            finally
            {
                calls.Record(Stopwatch.GetElapsedTime(began).TotalSeconds, new KeyValuePair<string, object?>("call", NameOf(request)), new("outcome", outcome));
            }
        }

        /// <summary><c>POST containers/start</c> of <c>POST /v1.47/containers/4f…/start</c>: what there are few of.</summary>
        private static string NameOf(HttpRequestMessage request)
        {
            var parts = request.RequestUri!.AbsolutePath.Split('/', StringSplitOptions.RemoveEmptyEntries);
            var path = parts is [['v', >= '0' and <= '9', ..], .. var rest] ? rest : parts;
            return path is [] ? request.Method.Method
                : path.Length > 1 && words.Contains(path[^1]) ? $"{request.Method} {path[0]}/{path[^1]}" : $"{request.Method} {path[0]}";
        }
    }
}
