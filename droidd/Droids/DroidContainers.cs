using System.Globalization;
using System.Net;
using System.Text.Json;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Droids;

/// <summary>A droid's container.</summary>
/// <param name="Id">Docker's id.</param>
/// <param name="Name"><c>uid</c> serves, <c>uid.next</c> is on its way to, <c>uid.old</c> drains.</param>
/// <param name="ImageId">Docker's image id.</param>
/// <param name="Address"><c>ip:port</c> on droid-net.</param>
/// <param name="State">Docker's word: created, running, paused, restarting, exited, dead.</param>
/// <param name="Spec">What it was made for.</param>
internal sealed record DroidContainer(string Id, string Name, string ImageId, string Address, string State, DroidSpec Spec);

/// <summary>What Docker says of a container at one moment.</summary>
/// <param name="Running">Also while frozen, and between two tries of a crash loop.</param>
/// <param name="Paused">Frozen.</param>
/// <param name="Restarting">Docker waits before it starts it again.</param>
/// <param name="OutOfMemory">The kernel killed it for its memory limit.</param>
/// <param name="ExitCode">Of its last run.</param>
/// <param name="Restarts">How often Docker has revived it since its last start by command.</param>
internal sealed record ContainerState(bool Running, bool Paused, bool Restarting, bool OutOfMemory, long ExitCode, long Restarts);

/// <summary>The droids' containers in Docker. They are known by their labels, so that Docker's list is the whole truth.</summary>
internal sealed class DroidContainers(DockerClient docker, DroiddSettings settings)
{
    /// <summary>Where an app listens that says nothing else.</summary>
    public const int DefaultPort = 7000;

    private readonly SemaphoreSlim addressGate = new(1, 1);
    private uint lastOffset;

    public async Task<IReadOnlyList<DroidContainer>> ListAsync(CancellationToken cancel)
    {
        var found = await docker.Containers.ListContainersAsync(new()
        {
            All = true,
            Filters = new Dictionary<string, IDictionary<string, bool>>
            {
                ["label"] = new Dictionary<string, bool> { [DroidLabels.Spec] = true },
                ["network"] = new Dictionary<string, bool> { [settings.Network] = true },
            },
        }, cancel);
        return [.. found.Select(c => Read(c)).OfType<DroidContainer>()];
    }

    private DroidContainer? Read(ContainerListResponse c)
    {
        if (c.NetworkSettings?.Networks.TryGetValue(settings.Network, out var endpoint) is not true)
            return null;
        var spec = JsonSerializer.Deserialize(c.Labels[DroidLabels.Spec], AppoxyJson.Default.DroidSpec)!;
        var ip = endpoint.IPAMConfig?.IPv4Address is { Length: > 0 } fixedIp ? fixedIp : endpoint.IPAddress;
        return new DroidContainer(c.ID, c.Names[0].TrimStart('/'), c.ImageID, $"{ip}:{spec.Port}", c.State, spec);
    }

    public async Task<ContainerState> InspectAsync(string id, CancellationToken cancel)
    {
        var seen = await docker.Containers.InspectContainerAsync(id, cancel);
        var state = seen.State ?? throw new InvalidOperationException("Docker tells no state");
        return new(state.Running, state.Paused, state.Restarting, state.OOMKilled, state.ExitCode, seen.RestartCount);
    }

    /// <summary>Makes and starts <c>uid.next</c> from <paramref name="imageId"/> at a free address; one that is there already is removed.</summary>
    /// <param name="spec">With <see cref="DroidSpec.Port"/> null, the image's only exposed TCP port is taken, else 7000.</param>
    /// <param name="imageId">Docker's image id.</param>
    /// <param name="cancel">Ends the attempt; a half-made container is removed at the next one.</param>
    public async Task<DroidContainer> StartNextAsync(DroidSpec spec, string imageId, CancellationToken cancel)
    {
        var name = spec.Uid + ".next";
        await RemoveAsync(name, cancel);
        var image = await docker.Images.InspectImageAsync(imageId, cancel);
        spec = spec with { Port = spec.Port ?? ExposedPort(image.Config?.ExposedPorts?.Keys) ?? DefaultPort };
        await addressGate.WaitAsync(cancel);
        try
        {
            var address = await FreeAddressAsync(cancel);
            // Not cancelled half-way: Docker would go on, and the container would stand in the way of the next try.
            var created = await docker.Containers.CreateContainerAsync(Parameters(spec, name, imageId, address), CancellationToken.None);
            await docker.Containers.StartContainerAsync(created.ID, new(), CancellationToken.None);
            return new DroidContainer(created.ID, name, image.ID, $"{address}:{spec.Port}", "running", spec);
        }
        finally
        {
            addressGate.Release();
        }
    }

    internal static int? ExposedPort(IEnumerable<string>? exposed)
    {
        var tcp = (exposed ?? []).Select(p => p.Split('/')).Where(p => p.Length == 1 || p[1] == "tcp").ToList();
        return tcp.Count == 1 && int.TryParse(tcp[0][0], NumberStyles.None, CultureInfo.InvariantCulture, out var port) ? port : null;
    }

    private CreateContainerParameters Parameters(DroidSpec spec, string name, string imageId, IPAddress address) => new()
    {
        Name = name,
        Image = imageId,
        Hostname = spec.App,
        Env = [.. spec.Env.Select(e => $"{e.Key}={e.Value}"), $"PORT={spec.Port}"],
        Labels = new Dictionary<string, string>
        {
            [DroidLabels.Uid] = spec.Uid,
            [DroidLabels.App] = spec.App,
            [DroidLabels.Deployment] = spec.Deployment.ToString(CultureInfo.InvariantCulture),
            [DroidLabels.Spec] = JsonSerializer.Serialize(spec, AppoxyJson.Default.DroidSpec),
        },
        HostConfig = new HostConfig
        {
            NetworkMode = settings.Network,
            Memory = spec.Limits.MemoryBytes,
            MemorySwap = spec.Limits.MemoryBytes,
            NanoCPUs = (long)(spec.Limits.Cpus * 1e9),
            PidsLimit = 1024,
            // An app as process 1 would ignore SIGTERM and leave zombies.
            Init = true,
            CapDrop = ["ALL"],
            // What images need that start as root, prepare their folders and drop to another user.
            CapAdd = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"],
            SecurityOpt = ["no-new-privileges"],
            LogConfig = new LogConfig
            {
                Type = "json-file",
                Config = new Dictionary<string, string> { ["max-size"] = "10m", ["max-file"] = "3" },
            },
        },
        NetworkingConfig = new NetworkingConfig
        {
            EndpointsConfig = new Dictionary<string, EndpointSettings>
            {
                [settings.Network] = new() { IPAMConfig = new EndpointIPAMConfig { IPv4Address = address.ToString() } },
            },
        },
    };

    /// <summary>
    /// The next address that no container has. Docker does not keep a stopped container's fixed address for it, so none is given
    /// out twice here; they are taken in turn, so that a late packet for a removed droid does not reach a new one.
    /// </summary>
    private async Task<IPAddress> FreeAddressAsync(CancellationToken cancel)
    {
        var subnet = IPNetwork.Parse(settings.Subnet);
        var first = BitConverter.ToUInt32([.. subnet.BaseAddress.GetAddressBytes().Reverse()]);
        var count = (1u << (32 - subnet.PrefixLength)) - 3;
        var network = await docker.Networks.InspectNetworkAsync(settings.Network, cancel);
        var taken = (await ListAsync(cancel)).Select(c => c.Address.Split(':')[0])
            .Concat(network.Containers?.Values.Select(c => c.IPv4Address.Split('/')[0]) ?? []).ToHashSet();
        for (var tried = 0u; tried < count; tried++)
        {
            // .0 is the network, .1 the gateway, the last the broadcast address.
            lastOffset = lastOffset % count + 1;
            var address = new IPAddress([.. BitConverter.GetBytes(first + 1 + lastOffset).Reverse()]);
            if (!taken.Contains(address.ToString()))
                return address;
        }
        throw new Problem(503, $"droid-net {settings.Subnet} has no free address left");
    }

    /// <summary>Has Docker itself revive the droid when it crashes, so that it comes back even while droidd is away.</summary>
    public Task KeepUpAsync(string id, CancellationToken cancel) => docker.Containers.UpdateContainerAsync(
        id, new() { RestartPolicy = new RestartPolicy { Name = RestartPolicyKind.UnlessStopped } }, cancel);

    public Task RenameAsync(string id, string name, CancellationToken cancel) =>
        docker.Containers.RenameContainerAsync(id, new() { NewName = name }, cancel);

    public Task StartAsync(string id, CancellationToken cancel) => docker.Containers.StartContainerAsync(id, new(), cancel);

    public Task PauseAsync(string id, CancellationToken cancel) => docker.Containers.PauseContainerAsync(id, cancel);

    public Task UnpauseAsync(string id, CancellationToken cancel) => docker.Containers.UnpauseContainerAsync(id, cancel);

    /// <summary>Stops it: SIGTERM, and SIGKILL after ten seconds. A frozen one is thawed first, or it could not hear the signal.</summary>
    public async Task StopAsync(string id, CancellationToken cancel)
    {
        if ((await InspectAsync(id, cancel)).Paused)
            await UnpauseAsync(id, cancel);
        await docker.Containers.StopContainerAsync(id, new() { WaitBeforeKillSeconds = 10 }, cancel);
    }

    /// <summary>Removes a container by id or name; one that is not there is no fault.</summary>
    public async Task RemoveAsync(string id, CancellationToken cancel)
    {
        try
        {
            await docker.Containers.RemoveContainerAsync(id, new() { Force = true, RemoveVolumes = true }, cancel);
        }
        catch (DockerApiException e) when (e.StatusCode is HttpStatusCode.NotFound or HttpStatusCode.Conflict)
        {
            // 409: its removal is under way already.
        }
    }

    /// <summary>The last lines that a container printed, for the log of a deployment that failed.</summary>
    public async Task<IReadOnlyList<string>> TailAsync(string id, int lines, CancellationToken cancel)
    {
        using var stream = await docker.Containers.GetContainerLogsAsync(id,
            new() { ShowStdout = true, ShowStderr = true, Tail = lines.ToString(CultureInfo.InvariantCulture) }, cancel);
        var (output, errors) = await stream.ReadOutputToEndAsync(cancel);
        return (output + errors).Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    /// <summary>Makes the networks of droids and of builds where they are missing.</summary>
    public async Task EnsureNetworksAsync(CancellationToken cancel)
    {
        var there = (await docker.Networks.ListNetworksAsync(cancellationToken: cancel)).Select(n => n.Name).ToHashSet();
        // Containers of one network can't reach each other.
        var options = new Dictionary<string, string> { ["com.docker.network.bridge.enable_icc"] = "false" };
        if (!there.Contains(settings.Network))
        {
            await docker.Networks.CreateNetworkAsync(new()
            {
                Name = settings.Network, Driver = "bridge", Options = options,
                IPAM = new IPAM { Config = [new IPAMConfig { Subnet = settings.Subnet }] },
            }, cancel);
        }
        if (!there.Contains(settings.BuildNetwork))
            await docker.Networks.CreateNetworkAsync(new() { Name = settings.BuildNetwork, Driver = "bridge", Options = options }, cancel);
    }
}
