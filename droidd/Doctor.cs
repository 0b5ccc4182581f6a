using Appoxy.Droidd.Droids;
using Appoxy.Droidd.Isolation;
using Appoxy.Droidd.LocalNginx;
using Docker.DotNet;

namespace Appoxy.Droidd;

/// <summary><c>GET /doctor</c>: what is wrong on this droid-server, and what to do about it.</summary>
internal static class Doctor
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(4);

    public static void MapDoctor(this IEndpointRouteBuilder routes) => routes.MapGet("/doctor", LookAsync);

    private static async Task<IResult> LookAsync(
        DockerClient docker, DroiddSettings settings, Firewall firewall, LocalConfig config, TimeProvider time, CancellationToken cancel)
    {
        var all = await Task.WhenAll(DockerAsync(docker, settings, cancel), NginxAsync(settings, config, cancel));
        return TypedResults.Ok(new DroidServerFindings(time.GetUtcNow(),
            [.. all, Isolation(firewall), Git(), Pack(settings), .. DiskSpace.Look(settings.DataDir, "/var/lib/docker")]));
    }

    private static async Task<Finding> DockerAsync(DockerClient docker, DroiddSettings settings, CancellationToken cancel)
    {
        try
        {
            await docker.System.PingAsync(cancel).WaitAsync(Limit, cancel);
            return new Finding("docker");
        }
        catch (Exception e) when (!cancel.IsCancellationRequested)
        {
            return new Finding("docker", $"Docker does not answer at {settings.Docker} ({e.Message.Split('\n')[0]})",
                "start it (provision.sh --start, or systemctl start docker); its log tells why it ended");
        }
    }

    private static async Task<Finding> NginxAsync(DroiddSettings settings, LocalConfig config, CancellationToken cancel)
    {
        try
        {
            using var http = LocalHttp.For("unix:" + settings.Nginx.ControlSocket, Limit);
            var serves = (await http.GetStringAsync("version", cancel)).Trim();
            if (config.Status.Error is { } fault)
                return new Finding("local-nginx", $"newer templates were refused, those before serve on: {fault}",
                    $"mend {fault.Template}: appoxy templates show {fault.Template}, then appoxy templates apply");
            return config.Status.Version is { } wanted && wanted != serves
                ? new Finding("local-nginx", $"it serves configuration {serves} and not {wanted}", "restart it: provision.sh --start")
                : new Finding("local-nginx");
        }
        catch (Exception e) when (!cancel.IsCancellationRequested)
        {
            return new Finding("local-nginx", $"it does not answer ({e.Message})", "start it (provision.sh --start); its error log tells why it ended");
        }
    }

    private static Finding Isolation(Firewall firewall)
    {
        try
        {
            firewall.Require();
            return new Finding("firewall");
        }
        catch (IsolationException e)
        {
            return new Finding("firewall", e.Message, "let droidd run iptables, or load its kernel modules; see docs/isolation.md");
        }
    }

    private static Finding Git() => DiskSpace.Program("git") is not null ? new Finding("git")
        : new Finding("git", "there is no git, so nothing can be deployed from repositories", "apt install git");

    private static Finding Pack(DroiddSettings settings) => DiskSpace.Program(settings.Pack) is not null ? new Finding("pack")
        : new Finding("pack", $"there is no {settings.Pack}, so only apps with a Dockerfile can be built",
            "install it from https://buildpacks.io, or set pack in droidd.local.json");
}
