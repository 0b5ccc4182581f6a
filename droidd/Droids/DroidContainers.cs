using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Text.Json;
using Appoxy.Droidd.Builds;
using Appoxy.Droidd.Isolation;
using Appoxy.Droidd.Volumes;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Droids;

/// <summary>A droid's container.</summary>
/// <param name="Id">Docker's id.</param>
/// <param name="Name">
/// Of a release's <c>web.1</c>: <c>uid</c> serves, <c>uid.next</c> is on its way to, <c>uid.old</c> drains; the others of a release go with
/// it. The release command's is <c>uid.release</c>.
/// </param>
/// <param name="ImageId">Docker's image id.</param>
/// <param name="Address"><c>ip:port</c> on droid-net; without the ip where nobody knows it any more.</param>
/// <param name="State">Docker's word: created, running, paused, restarting, exited, dead.</param>
/// <param name="Spec">What it was made for.</param>
internal sealed record DroidContainer(string Id, string Name, string ImageId, string Address, string State, DroidSpec Spec)
{
    /// <summary>The process type that it runs.</summary>
    public ProcessType Type { get; init; } = BuiltImage.WebAlone[0];

    /// <summary>Its number within its type, from 1.</summary>
    public int Number { get; init; } = 1;

    /// <summary>The same for containers that were made to serve together.</summary>
    public string Release { get; init; } = "0";

    /// <summary>All process types of its image.</summary>
    public IReadOnlyList<ProcessType> Types { get; init; } = BuiltImage.WebAlone;

    /// <summary>Whether droid-net at its address is all of its networks.</summary>
    public bool IsConnected { get; init; } = true;

    public bool IsWeb => Type.Type == ProcessType.Web;

    /// <summary>What it is called in its app: <c>web.1</c>.</summary>
    public string Process => string.Create(CultureInfo.InvariantCulture, $"{Type.Type}.{Number}");
}

/// <summary>A container to be made.</summary>
/// <param name="Spec">What it is made for, with its port; see <see cref="DroidContainers.WithPortAsync"/>.</param>
/// <param name="ImageId">Docker's image id.</param>
/// <param name="Types">All process types of the image.</param>
/// <param name="Release">The same for those that are to serve together.</param>
/// <param name="Type">The type that it is to run.</param>
/// <param name="Number">Its number within that.</param>
internal sealed record NewContainer(DroidSpec Spec, string ImageId, IReadOnlyList<ProcessType> Types, string Release, ProcessType Type, int Number)
{
    public string Process => string.Create(CultureInfo.InvariantCulture, $"{Type.Type}.{Number}");
}

/// <summary>What Docker says of a container at one moment.</summary>
/// <param name="Running">Also while frozen, and between two tries of a crash loop.</param>
/// <param name="Paused">Frozen.</param>
/// <param name="Restarting">Docker waits before it starts it again.</param>
/// <param name="OutOfMemory">The kernel killed it for its memory limit.</param>
/// <param name="ExitCode">Of its last run.</param>
/// <param name="Restarts">How often Docker has revived it since its last start by command.</param>
internal sealed record ContainerState(bool Running, bool Paused, bool Restarting, bool OutOfMemory, long ExitCode, long Restarts);

/// <summary>The droids' containers in Docker. They are known by their labels, so that Docker's list is the whole truth.</summary>
internal sealed partial class DroidContainers(
    DockerClient docker, DroiddSettings settings, Firewall firewall, DroidVolumes volumes, TimeProvider time)
{
    /// <summary>Where an app listens that says nothing else.</summary>
    public const int DefaultPort = 7000;

    private const long MostOpenFiles = 65536;

    /// <summary>A deployment outlives a Docker that hangs for a while; what else waits for Docker goes by <see cref="DockerPulse"/>.</summary>
    private static readonly TimeSpan Quick = TimeSpan.FromSeconds(30);

    // More than droidd's own, dockerd may not be allowed to give; both have theirs from the same supervisor.
    private static readonly long OpenFiles = Math.Min(MostOpenFiles, File.ReadLines("/proc/self/limits")
        .Where(l => l.StartsWith("Max open files", StringComparison.Ordinal))
        .Select(l => long.TryParse(l.Split(' ', StringSplitOptions.RemoveEmptyEntries)[4], out var hard) ? hard : MostOpenFiles)
        .FirstOrDefault(MostOpenFiles));

    private readonly SemaphoreSlim addressGate = new(1, 1);
    private readonly ConcurrentDictionary<string, IReadOnlyDictionary<string, string>> environments = new();
    private uint lastOffset;

    /// <summary>The droids' containers: all, or of these ids. Those that somebody took off droid-net are among them.</summary>
    public async Task<IReadOnlyList<DroidContainer>> ListAsync(CancellationToken cancel, IReadOnlyCollection<string>? ids = null)
    {
        var found = (await ListAllAsync(ids, cancel)).Where(IsOurs).ToList();
        if (ids is null)
        {
            foreach (var gone in environments.Keys.Except(found.Select(c => c.ID)).ToList())
                environments.TryRemove(gone, out _);
        }
        var read = new DroidContainer?[found.Count];
        await Parallel.ForAsync(0, found.Count, new ParallelOptions { MaxDegreeOfParallelism = 8, CancellationToken = cancel }, async (i, _) =>
            read[i] = found[i].Labels.ContainsKey(DroidLabels.Env) ? await WithEnvAsync(Read(found[i]), cancel) : Read(found[i]));
        return [.. read.OfType<DroidContainer>()];
    }

    /// <summary>All containers of droids in this Docker, also of another Appoxy.</summary>
    private async Task<IList<ContainerListResponse>> ListAllAsync(IReadOnlyCollection<string>? ids, CancellationToken cancel)
    {
        var filters = new Dictionary<string, IDictionary<string, bool>> { ["label"] = new Dictionary<string, bool> { [DroidLabels.Spec] = true } };
        if (ids is not null)
            filters["id"] = ids.ToDictionary(id => id, _ => true);
        return await QuickAsync(c => docker.Containers.ListContainersAsync(new() { All = true, Filters = filters }, c), cancel);
    }

    private bool IsOurs(ContainerListResponse c) => c.Labels.TryGetValue(DroidLabels.Owner, out var owner) ? owner == settings.DataDir
        : c.HostConfig?.NetworkMode == settings.Network || c.NetworkSettings?.Networks?.ContainsKey(settings.Network) == true;

    /// <summary>Bounds what Docker answers at once, unless it hangs.</summary>
    private static async Task<T> QuickAsync<T>(Func<CancellationToken, Task<T>> ask, CancellationToken cancel)
    {
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(Quick);
        try
        {
            return await ask(bound.Token);
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new TimeoutException($"Docker does not answer within {Quick.TotalSeconds:0} s");
        }
    }

    /// <summary>With the values of its environment, which Docker tells of one container at a time; null where it is gone by now.</summary>
    private async Task<DroidContainer?> WithEnvAsync(DroidContainer container, CancellationToken cancel)
    {
        if (!environments.TryGetValue(container.Id, out var env))
        {
            try
            {
                var all = (await docker.Containers.InspectContainerAsync(container.Id, cancel)).Config?.Env ?? [];
                var values = all.Select(e => e.Split('=', 2)).Where(e => e.Length == 2).GroupBy(e => e[0]).ToDictionary(e => e.Key, e => e.Last()[1]);
                env = container.Spec.Env.Keys.ToDictionary(name => name, name => values.GetValueOrDefault(name, ""));
            }
            catch (DockerApiException e) when (e.StatusCode == HttpStatusCode.NotFound)
            {
                return null;
            }
            environments[container.Id] = env;
        }
        return container with { Spec = container.Spec with { Env = env } };
    }

    /// <summary>A spec as labels show it: names of the env without values, a git address without its password.</summary>
    private static DroidSpec Shown(DroidSpec spec) => spec with
    {
        GitAccess = null,
        Env = spec.Env.ToDictionary(e => e.Key, _ => ""),
        Source = spec.Source.Git is { } git && SourceRules.Secret(git.Url) is { } secret
            ? spec.Source with { Git = git with { Url = git.Url.Replace(secret, "***", StringComparison.Ordinal) } } : spec.Source,
    };

    private DroidContainer Read(ContainerListResponse c)
    {
        var spec = JsonSerializer.Deserialize(c.Labels[DroidLabels.Spec], AppoxyJson.Default.DroidSpec)!;
        var at = AddressOn(c.NetworkSettings?.Networks);
        var ip = c.Labels.TryGetValue(DroidLabels.Address, out var made) ? made : at;
        var container = new DroidContainer(c.ID, c.Names[0].TrimStart('/'), c.ImageID, $"{ip}:{spec.Port}", c.State, spec)
        {
            IsConnected = ip is not null && IsFixedAt(ip, c.NetworkSettings?.Networks) && c.NetworkSettings?.Networks?.Count == 1,
        };
        if (!c.Labels.TryGetValue(DroidLabels.Process, out var process))
            return container;
        var types = JsonSerializer.Deserialize(c.Labels[DroidLabels.Types], AppoxyJson.Default.IReadOnlyListProcessType)!;
        var dot = process.LastIndexOf('.');
        return container with
        {
            Types = types,
            Type = types.FirstOrDefault(t => t.Type == process[..dot]) ?? new ProcessType(process[..dot]),
            Number = int.Parse(process.AsSpan(dot + 1), NumberStyles.None, CultureInfo.InvariantCulture),
            Release = c.Labels[DroidLabels.Release],
        };
    }

    public async Task<ContainerState> InspectAsync(string id, CancellationToken cancel)
    {
        var seen = await QuickAsync(c => docker.Containers.InspectContainerAsync(id, c), cancel);
        var state = seen.State ?? throw new InvalidOperationException("Docker tells no state");
        var outOfMemory = state.OOMKilled || KernelLog.SaysOutOfMemory(id, state.ExitCode);
        return new(state.Running, state.Paused, state.Restarting, outOfMemory, state.ExitCode, seen.RestartCount);
    }

    /// <summary>A spec with its port: where it is null, the image's only exposed TCP port, else 7000.</summary>
    public async Task<DroidSpec> WithPortAsync(DroidSpec spec, string imageId, CancellationToken cancel) => spec.Port is not null ? spec
        : spec with { Port = ExposedPort((await docker.Images.InspectImageAsync(imageId, cancel)).Config?.ExposedPorts?.Keys) ?? DefaultPort };

    /// <summary>Makes a container at a free address and leaves it to be started; one that has its name is removed.</summary>
    /// <param name="wanted">What to make.</param>
    /// <param name="name">Its name; null for one that no other has.</param>
    /// <param name="cancel">Ends the attempt before anything is made.</param>
    public async Task<DroidContainer> CreateAsync(NewContainer wanted, string? name, CancellationToken cancel)
    {
        firewall.Require();
        name ??= NameOf(wanted.Spec.Uid, wanted.Release, wanted.Process);
        await RemoveAsync(name, cancel);
        await volumes.EnsureAsync(wanted.Spec.Uid, wanted.Spec.Volumes, cancel);
        await addressGate.WaitAsync(cancel);
        try
        {
            var address = await FreeAddressAsync(null, cancel);
            return new DroidContainer(await MakeAsync(wanted, name, address), name, wanted.ImageId, $"{address}:{wanted.Spec.Port}", "created", wanted.Spec)
            {
                Types = wanted.Types, Type = wanted.Type, Number = wanted.Number, Release = wanted.Release,
            };
        }
        finally
        {
            addressGate.Release();
        }
    }

    /// <summary>The name of a process's container, but for that of a release's first <c>web</c>.</summary>
    public static string NameOf(string uid, string release, string process) => $"{uid}.{release}.{process}";

    private async Task<string> MakeAsync(NewContainer wanted, string name, IPAddress address)
    {
        held[name] = true;
        try
        {
            // Not cancelled half-way: Docker would go on, and the container would stand in the way of the next try.
            var created = await docker.Containers.CreateContainerAsync(Parameters(wanted, wanted.Spec, name, address), CancellationToken.None);
            held[created.ID] = true;
            return created.ID;
        }
        finally
        {
            held.TryRemove(name, out _);
        }
    }

    /// <summary>Starts a container for the first time.</summary>
    /// <exception cref="BuildException">Its program, or the shell for its command, is not in the image.</exception>
    public async Task StartNewAsync(DroidContainer made)
    {
        try
        {
            await StartAsync(made.Id, CancellationToken.None);
        }
        catch (DockerApiException e) when (DockerFault.Words(e) is var words && words.Contains("exec: ", StringComparison.Ordinal))
        {
            throw new BuildException(FailureReasons.NotReady, made.Type.Command is null || made.Type.Entrypoint is not null
                ? $"{made.Process} can't be started: {words}"
                : $"{made.Process} can't be started, as its command needs a shell in the image: {words}");
        }
    }

    internal static int? ExposedPort(IEnumerable<string>? exposed)
    {
        var tcp = (exposed ?? []).Select(p => p.Split('/')).Where(p => p.Length == 1 || p[1] == "tcp").ToList();
        return tcp.Count == 1 && int.TryParse(tcp[0][0], NumberStyles.None, CultureInfo.InvariantCulture, out var port) ? port : null;
    }

    private CreateContainerParameters Parameters(NewContainer wanted, DroidSpec spec, string name, IPAddress address) => new()
    {
        Name = name,
        Image = wanted.ImageId,
        Hostname = spec.App,
        // Null is the image's own: of a buildpacks' image, web is what runs by itself.
        Entrypoint = wanted.Type is { Type: not ProcessType.Web, Entrypoint: { } program } ? [program] : null!,
        // An entrypoint of the image's own stays, and gets this as its arguments.
        Cmd = wanted.Type switch
        {
            { Entrypoint: null, Command: { } command } => ["/bin/sh", "-c", command],
            { Entrypoint: ProcessType.Launcher, Command: { } command } => ["--", "/bin/sh", "-c", command],
            _ => null!,
        },
        Env =
        [
            .. spec.Env.Select(e => $"{e.Key}={e.Value}"), $"DYNO={wanted.Process}",
            .. wanted.Type.Type == ProcessType.Web ? [$"PORT={spec.Port}"] : (string[])[],
        ],
        Labels = new Dictionary<string, string>
        {
            [DroidLabels.Uid] = spec.Uid,
            [DroidLabels.Owner] = settings.DataDir,
            [DroidLabels.Address] = address.ToString(),
            [DroidLabels.App] = spec.App,
            [DroidLabels.Deployment] = spec.Deployment.ToString(CultureInfo.InvariantCulture),
            [DroidLabels.Process] = wanted.Process,
            [DroidLabels.Release] = wanted.Release,
            [DroidLabels.Types] = JsonSerializer.Serialize(wanted.Types, AppoxyJson.Default.IReadOnlyListProcessType),
            [DroidLabels.Spec] = JsonSerializer.Serialize(Shown(spec), AppoxyJson.Default.DroidSpec),
            [DroidLabels.Env] = "container",
        },
        HostConfig = new HostConfig
        {
            NetworkMode = settings.Network,
            Memory = spec.Limits.MemoryBytes,
            MemorySwap = spec.Limits.MemoryBytes,
            NanoCPUs = (long)(spec.Limits.Cpus * 1e9),
            PidsLimit = spec.Limits.Pids,
            // Where the machine's own memory ends, an app goes before a daemon or the database.
            OomScoreAdj = 500,
            Ulimits = [new Ulimit { Name = "nofile", Soft = OpenFiles, Hard = OpenFiles }],
            Mounts = [.. spec.Volumes.Select(v => new Mount { Type = "volume", Source = DroidVolumes.NameOf(v.Id), Target = v.Path })],
            ReadonlyRootfs = spec.Limits.ReadOnly,
            Tmpfs = spec.Limits.ReadOnly ? new Dictionary<string, string> { ["/tmp"] = "rw,nosuid,nodev,mode=1777" } : null,
            // An app as process 1 would ignore SIGTERM and leave zombies.
            Init = true,
            CapDrop = ["ALL"],
            // What images need that start as root, prepare their folders and drop to another user.
            CapAdd = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"],
            SecurityOpt = ["no-new-privileges"],
            LogConfig = new LogConfig
            {
                Type = "json-file",
                Config = new Dictionary<string, string>
                {
                    ["max-size"] = "10m", ["max-file"] = "3",
                    // Who writes more than dockerd can take loses lines; else dockerd would take all of the processors to keep up.
                    ["mode"] = "non-blocking", ["max-buffer-size"] = "1m",
                },
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
    /// The address asked for if no container has it, else the next one that none has. Docker does not keep a stopped container's fixed
    /// address for it, so none is given out twice here; they are taken in turn, so that a late packet for a removed droid does not reach a
    /// new one.
    /// </summary>
    private async Task<IPAddress> FreeAddressAsync(IPAddress? best, CancellationToken cancel)
    {
        var subnet = IPNetwork.Parse(settings.Subnet);
        var first = BitConverter.ToUInt32([.. subnet.BaseAddress.GetAddressBytes().Reverse()]);
        var count = (1u << (32 - subnet.PrefixLength)) - 3;
        var network = await docker.Networks.InspectNetworkAsync(settings.Network, cancel);
        var taken = (await ListAllAsync(null, cancel)).SelectMany(c => new[] { c.Labels.TryGetValue(DroidLabels.Address, out var made) ? made : null, AddressOn(c.NetworkSettings?.Networks) })
            .Concat(network.Containers?.Values.Select(c => c.IPv4Address.Split('/')[0]) ?? []).ToHashSet();
        if (best is not null && subnet.Contains(best) && !taken.Contains(best.ToString()))
            return best;
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

    /// <exception cref="IsolationException">Nothing keeps it apart.</exception>
    public async Task StartAsync(string id, CancellationToken cancel)
    {
        firewall.Require();
        await StartOverAsync(id, cancel);
    }

    public Task RestartAsync(string id, CancellationToken cancel) =>
        docker.Containers.RestartContainerAsync(id, new() { WaitBeforeKillSeconds = 10 }, cancel);

    public Task PauseAsync(string id, CancellationToken cancel) => docker.Containers.PauseContainerAsync(id, cancel);

    public Task UnpauseAsync(string id, CancellationToken cancel) => docker.Containers.UnpauseContainerAsync(id, cancel);

    /// <summary>Thaws it if it is frozen; false if it is not.</summary>
    public async Task<bool> TryUnpauseAsync(string id, CancellationToken cancel)
    {
        try
        {
            await UnpauseAsync(id, cancel);
            return true;
        }
        catch (DockerApiException e) when (e.StatusCode is HttpStatusCode.Conflict or HttpStatusCode.InternalServerError)
        {
            // 500: older Dockers' word for a container that is not paused.
            return false;
        }
    }

    /// <summary>Starts it if it is stopped; false if it runs or is frozen.</summary>
    /// <exception cref="IsolationException">Nothing keeps it apart.</exception>
    public async Task<bool> TryStartAsync(string id, CancellationToken cancel)
    {
        firewall.Require();
        try
        {
            return await StartOverAsync(id, cancel);
        }
        catch (DockerApiException e) when (e.StatusCode == HttpStatusCode.Conflict)
        {
            return false;
        }
    }

    /// <summary>Stops it: SIGTERM, and SIGKILL after ten seconds. A frozen one is thawed first, or it could not hear the signal.</summary>
    public async Task StopAsync(string id, CancellationToken cancel)
    {
        if ((await InspectAsync(id, cancel)).Paused)
            await UnpauseAsync(id, cancel);
        await docker.Containers.StopContainerAsync(id, new() { WaitBeforeKillSeconds = 10 }, cancel);
    }

    /// <summary>
    /// Makes a droid's container anew from its image, with nothing of what it had written beside its volumes; also one that is gone. It has
    /// the same address, unless somebody else has that by now, and is not started.
    /// </summary>
    public async Task<DroidContainer> RenewAsync(DroidContainer old, CancellationToken cancel)
    {
        try
        {
            await KillAsync(old.Id, cancel);
        }
        catch (DockerContainerNotFoundException)
        {
            // Gone already.
        }
        await RemoveAsync(old.Id, cancel);
        await RemoveAsync(old.Name, cancel);
        await volumes.EnsureAsync(old.Spec.Uid, old.Spec.Volumes, cancel);
        await addressGate.WaitAsync(cancel);
        try
        {
            var address = await FreeAddressAsync(IPAddress.TryParse(old.Address.Split(':')[0], out var had) ? had : null, cancel);
            var id = await MakeAsync(new NewContainer(old.Spec, old.ImageId, old.Types, old.Release, old.Type, old.Number), old.Name, address);
            await KeepUpAsync(id, CancellationToken.None);
            return old with { Id = id, State = "created", Address = $"{address}:{old.Spec.Port}", IsConnected = true };
        }
        finally
        {
            addressGate.Release();
        }
    }

    /// <summary>The folder that holds what a container has written; null where Docker's storage keeps it in another way.</summary>
    public async Task<string?> UpperFolderAsync(string id, CancellationToken cancel)
    {
        var seen = await docker.Containers.InspectContainerAsync(id, cancel);
        return seen.GraphDriver?.Data?.TryGetValue("UpperDir", out var folder) == true && Path.IsPathFullyQualified(folder) ? folder : null;
    }

    /// <summary>The file that Docker writes a container's log to; null where the container is gone, or its log is no file.</summary>
    public async Task<string?> LogFileAsync(string id, CancellationToken cancel)
    {
        try
        {
            return (await docker.Containers.InspectContainerAsync(id, cancel)).LogPath is { Length: > 0 } file ? file : null;
        }
        catch (DockerContainerNotFoundException)
        {
            return null;
        }
    }

    /// <summary>Ends a container without waiting for it; Docker does not revive it.</summary>
    public Task KillAsync(string id, CancellationToken cancel) =>
        docker.Containers.StopContainerAsync(id, new() { WaitBeforeKillSeconds = 0 }, cancel);

    /// <summary>What a container has written, in bytes, where no folder tells.</summary>
    public async Task<long> WrittenAsync(string id, CancellationToken cancel) =>
        (await docker.Containers.ListContainersAsync(new()
        {
            Size = true, Filters = new Dictionary<string, IDictionary<string, bool>> { ["id"] = new Dictionary<string, bool> { [id] = true } },
        }, cancel)).Sum(c => c.SizeRw ?? 0);

    /// <summary>Where Docker keeps images, containers and volumes.</summary>
    public async Task<string> RootAsync(CancellationToken cancel) =>
        (await docker.System.GetSystemInfoAsync(cancel)).DockerRootDir ?? throw new IOException("Docker does not tell where it keeps its files");

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
        finally
        {
            // What is left of it where Docker failed, the next look finds.
            LetGo(id);
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

    /// <summary>Makes the networks of droids and of builds where they are missing, and sees to it that they are closed.</summary>
    /// <param name="anew">Whether Docker may have been started again.</param>
    /// <param name="cancel">Ends it.</param>
    public async Task EnsureNetworksAsync(bool anew, CancellationToken cancel)
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
        await firewall.EnsureAsync(anew || !there.Contains(settings.Network) || !there.Contains(settings.BuildNetwork), cancel);
    }
}
