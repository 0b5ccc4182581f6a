using Appoxy.Cluster;
using Appoxy.Daemon;
using Appoxy.Nginx;
using Appoxy.Routerd;
using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Audits;
using Appoxy.Routerd.Cluster;
using Appoxy.Routerd.Console;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Deployments;
using Appoxy.Routerd.Doctor;
using Appoxy.Routerd.Domains;
using Appoxy.Routerd.Droids;
using Appoxy.Routerd.Git;
using Appoxy.Routerd.Placements;
using Appoxy.Routerd.Routes;
using Appoxy.Routerd.Routing;
using Appoxy.Routerd.Sealing;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Templates;
using Appoxy.Routerd.Users;
using Appoxy.Routerd.Volumes;
using Appoxy.Routerd.Webhooks;
using Microsoft.Extensions.Options;
using Npgsql;

if (args is ["join", ..])
    return await Joining.RunAsync("routerd", args);
if (!CommandLine.TryParse(args, out var command, out var fault))
{
    await Console.Error.WriteLineAsync($"routerd: {fault}");
    return 2;
}
try
{
    var builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions
    {
        // Else the host watches all that lies below the working directory, Docker's own files too.
        ContentRootPath = AppContext.BaseDirectory, Args = ["--hostBuilder:reloadConfigOnChange=false"],
    });
    builder.Configuration.Sources.Clear();
    // provision.sh writes the first file anew; what an admin sets goes into the second.
    builder.Configuration.AddJsonFile(command.Config, optional: false).AddJsonFile(Path.ChangeExtension(command.Config, ".local.json"), optional: true)
        .AddEnvironmentVariables("APPOXY__");
    builder.Services.AddSingleton<IValidateOptions<RouterdSettings>, RouterdSettingsValidator>();
    builder.Services.AddOptions<RouterdSettings>().Bind(builder.Configuration).ValidateOnStart();
    builder.Services.AddSingleton(s => s.GetRequiredService<IOptions<RouterdSettings>>().Value);
    builder.Services.AddSingleton(TimeProvider.System);
    builder.Services.AddSingleton(s => Postgres.Open(s.GetRequiredService<RouterdSettings>()));
    builder.Services.AddSingleton<SecretKeys>().AddSingleton<SecretBox>().AddSingleton<Examination>();
    builder.Services.AddSingleton<Resealing>().AddHostedService(s => s.GetRequiredService<Resealing>());
    builder.Services.AddSingleton<Redis>();
    builder.Services.AddSingleton<DroidServers>();
    builder.Services.AddSingleton<GlobalConfig>().AddHostedService(s => s.GetRequiredService<GlobalConfig>());
    builder.Services.AddHostedService(s =>
        ActivatorUtilities.CreateInstance<LogRotation>(s, "global", s.GetRequiredService<RouterdSettings>().Nginx));
    builder.Services.AddSingleton<TemplateVersions>().AddSingleton<TemplatedNginxes>().AddSingleton<TemplateActivations>();
    builder.Services.AddSingleton<Proxies>().AddHostedService(s => s.GetRequiredService<Proxies>());
    builder.Services.AddSingleton<TemplateSync>().AddHostedService(s => s.GetRequiredService<TemplateSync>());
    builder.Services.AddSingleton<Removals>().AddSingleton<VolumeRemovals>().AddSingleton<DeploymentRunner>().AddSingleton<GitRepositories>();
    builder.Services.AddSingleton<GitPushes>().AddSingleton<WebhookDeployments>().AddSingleton<RouteMetrics>();
    builder.Services.AddSingleton<ServerMetrics>().AddSingleton<DeploymentMetrics>().AddHostedService<Census>().AddHostedService<ProxyMetrics>();
    builder.Services.AddSingleton<Probes>().AddSingleton<UploadStore>().AddSingleton<Evacuation>();
    var cluster = builder.Configuration.GetSection("cluster").Get<ClusterSettings>();
    if (cluster is { IsProxy: true })
    {
        // All else is the control machine's: this one only has its nginx know what there is.
        builder.Services.AddHostedService<ServerList>();
    }
    else
    {
        builder.Services.AddHostedService<Reconcile>();
        builder.Services.AddHostedService(s => s.GetRequiredService<Probes>()).AddHostedService<Mover>();
        builder.Services.AddHostedService(s => s.GetRequiredService<UploadStore>());
        builder.Services.AddHostedService(s => s.GetRequiredService<Removals>()).AddHostedService(s => s.GetRequiredService<VolumeRemovals>());
        builder.Services.AddHostedService(s => s.GetRequiredService<DeploymentRunner>());
        builder.Services.AddHostedService(s => s.GetRequiredService<GitRepositories>());
        builder.Services.AddHostedService(s => s.GetRequiredService<WebhookDeployments>());
        builder.Services.AddHostedService<OldLogs>().AddHostedService<Publisher>();
    }
    builder.Services.AddHostedService<RouteSnapshot>();
    builder.Services.Configure<HostOptions>(o => o.ShutdownTimeout = TimeSpan.FromSeconds(5));
    builder.Logging.AddLines(builder.Configuration["logFormat"]);
    builder.Logging.AddFilter("Microsoft.AspNetCore", LogLevel.Warning).AddFilter("Microsoft.AspNetCore.Diagnostics", LogLevel.None)
        .AddFilter(typeof(TokenAuthentication).FullName, LogLevel.Warning)
        // It says the same in many more words.
        .AddFilter("Microsoft.AspNetCore.Authentication.OpenIdConnect", LogLevel.None);
    builder.AddTelemetry("routerd", "Npgsql");
    builder.Services.AddSingleton<Quotas>().AddHostedService<Pruning>();
    builder.AddCluster(cluster);
    builder.AddApi();
    builder.Services.AddOidc(builder.Configuration.GetSection("oidc").Get<OidcSettings>());

    await using var app = builder.Build();
    var settings = app.Services.GetRequiredService<RouterdSettings>();
    if (command.Verb == "migrate")
        return await CommandLine.MigrateAsync(settings);
    if (command.Verb == "admin")
        return await FirstAdmin.CreateAsync(app.Services.GetRequiredService<NpgsqlDataSource>(), command);
    app.ListenFor(settings);
    app.UseApi();
    app.MapHealth();
    app.MapCluster();
    // Not for visitors, whom the console's host lets this far.
    app.MapPrometheusScrapingEndpoint("/metrics").RequireMetricsScope();
    app.MapConsole();
    app.MapTokens();
    app.MapSession();
    app.MapOidc();
    app.MapAccount();
    app.MapGit();
    app.MapWebhookDeliveries();
    var v1 = app.MapGroup("/v1").RequireAuthorization();
    v1.MapApps();
    v1.MapDeployments();
    v1.MapWebhooks();
    v1.MapGitAccess();
    v1.MapDomains();
    v1.MapDroids();
    v1.MapVolumes();
    v1.MapServers();
    v1.MapServerMetrics();
    v1.MapMoves();
    v1.MapRoutes();
    v1.MapRouting();
    v1.MapTemplates();
    v1.MapSecrets();
    v1.MapDoctor();
    v1.MapUsers();
    v1.MapTeams();
    v1.MapCollaborators();
    v1.MapAudit();
    Access.RequireDeclared(app);
    if (command.Verb == "endpoints")
        return Access.Print(app);
    await app.RunAsync();
    return 0;
}
catch (OptionsValidationException e)
{
    await Console.Error.WriteLineAsync($"routerd: {command.Config}: {string.Join("; ", e.Failures)}");
    return 2;
}
catch (Exception e) when (e is InvalidDataException or IOException)
{
    await Console.Error.WriteLineAsync($"routerd: {e.Message} {e.InnerException?.Message}");
    return 1;
}
