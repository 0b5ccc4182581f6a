using Appoxy;
using Appoxy.Cluster;
using Appoxy.Daemon;
using Appoxy.Droidd;
using Appoxy.Droidd.Builds;
using Appoxy.Droidd.Cluster;
using Appoxy.Droidd.Droids;
using Appoxy.Droidd.Garbage;
using Appoxy.Droidd.Handover;
using Appoxy.Droidd.Hooks;
using Appoxy.Droidd.Images;
using Appoxy.Droidd.Isolation;
using Appoxy.Droidd.LocalNginx;
using Appoxy.Droidd.Snooze;
using Appoxy.Droidd.Volumes;
using Appoxy.Nginx;
using Docker.DotNet;
using Docker.DotNet.Unix;
using Microsoft.Extensions.Options;

if (args is ["join", ..])
    return await Joining.RunAsync("droidd", args);
if (args is not ([] or ["--config", _]))
{
    await Console.Error.WriteLineAsync("droidd: usage: droidd [--config FILE]");
    return 2;
}
var config = Path.GetFullPath(args.Length == 2 ? args[1] : "/etc/appoxy/droidd.json");
if (!File.Exists(config))
{
    await Console.Error.WriteLineAsync($"droidd: there is no file {config}; provision.sh writes it");
    return 2;
}

var builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions
{
    // Else the host watches all that lies below the working directory, Docker's own files too.
    ContentRootPath = AppContext.BaseDirectory, Args = ["--hostBuilder:reloadConfigOnChange=false"],
});
builder.Configuration.Sources.Clear();
// provision.sh writes the first file anew; what an admin sets goes into the second.
builder.Configuration.AddJsonFile(config, optional: false).AddJsonFile(Path.ChangeExtension(config, ".local.json"), optional: true)
    .AddEnvironmentVariables("APPOXY__");
builder.Services.AddSingleton<IValidateOptions<DroiddSettings>, DroiddSettingsValidator>();
builder.Services.AddOptions<DroiddSettings>().Bind(builder.Configuration).ValidateOnStart();
builder.Services.AddSingleton(s => s.GetRequiredService<IOptions<DroiddSettings>>().Value);
builder.Services.AddSingleton(TimeProvider.System);
builder.Services.AddSingleton(s => new DockerClientBuilder().WithTransportOptions(new MeasuredDocker(), new UnixSocketTransportOptions())
    .WithEndpoint(new Uri(s.GetRequiredService<DroiddSettings>().Docker)).WithTimeout(TimeSpan.FromMinutes(2)).Build());
builder.Services.AddSingleton<Firewall>().AddSingleton<DroidContainers>();
builder.Services.AddSingleton<DockerEvents>().AddSingleton<DockerPulse>();
builder.Services.AddSingleton<DroidImages>();
builder.Services.AddSingleton<DroidDict>();
builder.Services.AddSingleton<AccessLog>().AddSingleton<DroidLogs>();
builder.Services.AddSingleton<GitClone>();
builder.Services.AddSingleton<UploadedFolder>();
builder.Services.AddSingleton<BroughtImages>().AddSingleton<UnusedImages>().AddSingleton<DockerfileBuild>();
builder.Services.AddSingleton<Pack>().AddSingleton<PackBuilder>().AddSingleton<PackBuild>();
builder.Services.AddSingleton(s => new BuildQueue(s.GetRequiredService<DroiddSettings>().BuildsAtOnce));
builder.Services.AddSingleton<ImageBuild>();
builder.Services.AddSingleton<ReleaseCommand>();
builder.Services.AddSingleton<DeployTools>();
builder.Services.AddSingleton<LocalConfig>().AddHostedService(s => s.GetRequiredService<LocalConfig>());
builder.Services.AddHostedService(s => ActivatorUtilities.CreateInstance<LogRotation>(s, "local", s.GetRequiredService<DroiddSettings>().Nginx));
builder.Services.AddSingleton<DroidServer>().AddHostedService(s => s.GetRequiredService<DroidServer>());
builder.Services.AddHostedService<ExitWatch>();
builder.Services.AddHostedService<IdleWatch>();
builder.Services.AddSingleton<ReleaseHandover>();
builder.Services.AddSingleton<DroidVolumes>().AddSingleton<VolumeCopy>();
builder.Services.AddHostedService<DiskWatch>().AddHostedService<LogWatch>();
builder.Services.AddSingleton<GarbageCollector>().AddHostedService(s => s.GetRequiredService<GarbageCollector>());
builder.Services.AddProblemDetails(o => o.CustomizeProblemDetails = p => p.ProblemDetails.Extensions["requestId"] = p.HttpContext.TraceIdentifier);
builder.Services.AddExceptionHandler<ProblemWriter>();
builder.Services.ConfigureHttpJsonOptions(o => AppoxyJson.Configure(o.SerializerOptions));
builder.Services.Configure<RouteHandlerOptions>(o => o.ThrowOnBadRequest = true);
builder.Services.Configure<HostOptions>(o => o.ShutdownTimeout = TimeSpan.FromSeconds(5));
builder.Logging.AddLines(builder.Configuration["logFormat"]);
builder.Logging.AddFilter("Microsoft.AspNetCore", LogLevel.Warning).AddFilter("Microsoft.AspNetCore.Diagnostics", LogLevel.Critical);
builder.Services.AddSingleton<DroidGauges>().AddHostedService<VisitMetrics>();
builder.AddTelemetry("droidd");
builder.AddCluster();
Sockets.Listen(builder);

var app = builder.Build();
try
{
    _ = app.Services.GetRequiredService<DroiddSettings>();
}
catch (OptionsValidationException e)
{
    await Console.Error.WriteLineAsync($"droidd: {config}: {string.Join("; ", e.Failures)}");
    return 2;
}

_ = app.Services.GetRequiredService<DroidGauges>();
app.UseRequestIds();
app.UseExceptionHandler();
app.UseStatusCodePages();
app.Use(ClusterPort.AdmitAsync);
app.Use(Sockets.KeepApart);
app.MapWakeHook();
app.MapDroids();
app.MapDoctor();
app.MapVolumes();
app.MapHandover();
app.MapTemplates();
app.MapPrometheusScrapingEndpoint("/metrics");
await app.StartAsync();
Sockets.Restrict(app.Services.GetRequiredService<DroiddSettings>());
await app.WaitForShutdownAsync();
return 0;
