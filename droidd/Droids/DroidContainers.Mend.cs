using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Droids;

/// <summary>What somebody did by hand to the settings of a container.</summary>
/// <param name="Done">What was found and put right, in words.</param>
/// <param name="Left">What only another container would put right; null if nothing.</param>
internal sealed record Mended(IReadOnlyList<string> Done, string? Left);

/// <summary>What others may do by hand to the droids' containers, and how it is undone.</summary>
internal sealed partial class DroidContainers
{
    private const int StartTries = 10;
    private static readonly TimeSpan StepsGrace = TimeSpan.FromSeconds(20);

    // By id; by name while they are made.
    private readonly ConcurrentDictionary<string, bool> held = new();

    /// <summary>Whether droidd knows of a container: it serves, is on its way to, or drains. Another one with a droid's labels is nobody's.</summary>
    public bool Holds(DroidContainer container) => held.ContainsKey(container.Id) || held.ContainsKey(container.Name);

    public void Hold(DroidContainer container) => held[container.Id] = true;

    /// <summary>Has nothing to do with a container any more: if it is still there, the next look removes it.</summary>
    public void LetGo(string id) => held.TryRemove(id, out _);

    /// <summary>Removes the containers of builds' steps that a Docker which was killed could not dispose of.</summary>
    /// <param name="isBuilding">Whether a droid may have a build that runs: it needs its own.</param>
    /// <param name="cancel">Ends it.</param>
    public async Task RemoveBuildStepsAsync(Func<string, bool> isBuilding, CancellationToken cancel)
    {
        var ended = await QuickAsync(c => docker.Containers.ListContainersAsync(new()
        {
            All = true,
            Filters = new Dictionary<string, IDictionary<string, bool>>
            {
                ["label"] = new Dictionary<string, bool> { [$"{DroidLabels.Owner}={settings.DataDir}"] = true },
                ["status"] = new Dictionary<string, bool> { ["created"] = true, ["exited"] = true, ["dead"] = true },
            },
        }, c), cancel);
        // They have the labels of the image that they make, and so has what an admin has just made of it.
        foreach (var step in ended.Where(c => !c.Labels.ContainsKey(DroidLabels.Spec) && c.Labels.TryGetValue(DroidLabels.Uid, out var uid) && !isBuilding(uid)
            && time.GetUtcNow() - c.Created > StepsGrace))
            await RemoveAsync(step.ID, cancel);
    }

    /// <summary>The address that a container has on droid-net, or will have when it runs; null where it is not on it.</summary>
    private string? AddressOn(IDictionary<string, EndpointSettings>? networks) =>
        networks?.TryGetValue(settings.Network, out var endpoint) is not true ? null
        : endpoint.IPAMConfig?.IPv4Address is { Length: > 0 } fixedIp ? fixedIp : endpoint.IPAddress;

    /// <summary>Whether a container has an address on droid-net that it keeps over stops and starts.</summary>
    private bool IsFixedAt(string ip, IDictionary<string, EndpointSettings>? networks) =>
        networks?.TryGetValue(settings.Network, out var endpoint) == true && endpoint.IPAMConfig?.IPv4Address == ip;

    /// <summary>
    /// Starts a container, also one that a dockerd was just starting when it was killed: containerd has a task of it that the next dockerd
    /// knows nothing of, and would refuse each start for.
    /// </summary>
    private async Task<bool> StartOverAsync(string id, CancellationToken cancel)
    {
        for (var tries = 1; ; tries++)
        {
            try
            {
                return await docker.Containers.StartContainerAsync(id, new(), cancel);
            }
            catch (DockerApiException e) when (e.StatusCode == HttpStatusCode.InternalServerError && tries < StartTries
                && e.ResponseBody?.Contains($"task {id}: already exists", StringComparison.Ordinal) == true)
            {
                // With it goes the task, and what the task runs.
                foreach (var shim in ShimsOf(id))
                    shim.Kill();
                await Task.Delay(TimeSpan.FromMilliseconds(300), time, cancel);
            }
        }
    }

    /// <summary>The processes of containerd that look after a container's.</summary>
    private static List<Process> ShimsOf(string id) => [.. Process.GetProcesses().Where(p =>
    {
        try
        {
            // The kernel keeps the first 15 characters of a name.
            return p.ProcessName.StartsWith("containerd-shim", StringComparison.Ordinal)
                && File.ReadAllText($"/proc/{p.Id}/cmdline").Split('\0').SkipWhile(a => a != "-id").ElementAtOrDefault(1) == id;
        }
        catch (Exception e) when (e is IOException or InvalidOperationException)
        {
            // It has just ended.
            return false;
        }
    })];

    /// <summary>Gives a container a name; another one that has it by now gets a longer one.</summary>
    public async Task RenameAsync(string id, string name, CancellationToken cancel)
    {
        try
        {
            await docker.Containers.RenameContainerAsync(id, new() { NewName = name }, cancel);
        }
        catch (DockerApiException e) when (e.StatusCode == HttpStatusCode.Conflict)
        {
            var other = (await docker.Containers.InspectContainerAsync(name, cancel)).ID;
            if (other == id)
                return;
            await docker.Containers.RenameContainerAsync(other, new() { NewName = $"{name}.{other[..12]}" }, cancel);
            await docker.Containers.RenameContainerAsync(id, new() { NewName = name }, cancel);
        }
    }

    /// <summary>Whether Docker revives a container, as it does those that have served.</summary>
    public async Task<bool> IsKeptUpAsync(string id, CancellationToken cancel) =>
        (await docker.Containers.InspectContainerAsync(id, cancel)).HostConfig?.RestartPolicy?.Name == RestartPolicyKind.UnlessStopped;

    /// <summary>Whether an image is here.</summary>
    public async Task<bool> HasImageAsync(string image, CancellationToken cancel)
    {
        try
        {
            await docker.Images.InspectImageAsync(image, cancel);
            return true;
        }
        catch (DockerApiException e) when (e.StatusCode == HttpStatusCode.NotFound)
        {
            return false;
        }
    }

    /// <summary>Brings a container back to droid-net, at its address, and off all other networks; what was done, in words.</summary>
    /// <exception cref="DockerApiException">Docker refuses: the address may be somebody else's by now.</exception>
    public async Task<IReadOnlyList<string>> ReconnectAsync(DroidContainer own, CancellationToken cancel)
    {
        var done = new List<string>();
        var networks = (await docker.Containers.InspectContainerAsync(own.Id, cancel)).NetworkSettings?.Networks ?? new Dictionary<string, EndpointSettings>();
        var ip = own.Address.Split(':')[0];
        foreach (var other in networks.Keys.Where(n => n != settings.Network))
        {
            await docker.Networks.DisconnectNetworkAsync(other, new() { Container = own.Id, Force = true }, cancel);
            done.Add($"was put on the network {other}, and is taken off it");
        }
        if (IsFixedAt(ip, networks))
            return done;
        var at = AddressOn(networks);
        if (at is not null)
            await docker.Networks.DisconnectNetworkAsync(settings.Network, new() { Container = own.Id, Force = true }, cancel);
        await docker.Networks.ConnectNetworkAsync(settings.Network, new()
        {
            Container = own.Id, EndpointConfig = new() { IPAMConfig = new() { IPv4Address = ip } },
        }, cancel);
        done.Add(at is null ? $"was taken off its network, and is connected again at {ip}" : $"was connected otherwise, at {at}, and is at {ip} again for good");
        return done;
    }

    /// <summary>Gives a container its name, limits and restart policy back.</summary>
    public async Task<Mended> ResetAsync(DroidContainer own, CancellationToken cancel)
    {
        var done = new List<string>();
        var seen = await docker.Containers.InspectContainerAsync(own.Id, cancel);
        if (seen.Name.TrimStart('/') is var name && name != own.Name)
        {
            await RenameAsync(own.Id, own.Name, cancel);
            done.Add($"was renamed to {name}, and has its name back");
        }
        var found = Faults(own.Spec.Limits, seen.HostConfig!);
        if (found.Count == 0)
            return new(done, null);
        string? fault = null;
        try
        {
            await docker.Containers.UpdateContainerAsync(own.Id, new()
            {
                Memory = own.Spec.Limits.MemoryBytes, MemorySwap = own.Spec.Limits.MemoryBytes,
                NanoCPUs = (long)(own.Spec.Limits.Cpus * 1e9),
                CPUShares = DefaultShares,
                PidsLimit = own.Spec.Limits.Pids > 0 ? own.Spec.Limits.Pids : -1,
                RestartPolicy = new RestartPolicy { Name = RestartPolicyKind.UnlessStopped },
            }, cancel);
        }
        catch (DockerApiException e) when (e.StatusCode != HttpStatusCode.NotFound)
        {
            fault = e.Message;
        }
        // Docker takes no limit away from a container that has one.
        var left = Faults(own.Spec.Limits, (await docker.Containers.InspectContainerAsync(own.Id, cancel)).HostConfig!, swap: false);
        done.AddRange(found.Where(f => !left.Contains(f)).Select(f => f + ", and has it back"));
        return new(done, left.Count == 0 ? null : string.Join("; ", left) + (fault is null ? "" : $" (Docker: {fault})"));
    }

    /// <summary>What Docker gives to who asks for nothing.</summary>
    private const long DefaultShares = 1024;

    /// <summary>How a container's limits are not those that it was made with, in words.</summary>
    /// <param name="limits">What it was made with.</param>
    /// <param name="has">What Docker says of it.</param>
    /// <param name="swap">Whether to look at swap, of which some kernels keep no account.</param>
    internal static IReadOnlyList<string> Faults(DroidLimits limits, HostConfig has, bool swap = true)
    {
        var faults = new List<string>();
        void Compare(string what, long? is_, long made, Func<long, string> words)
        {
            // Where nothing is limited, Docker says 0 or -1.
            if (Math.Max(0, is_ ?? 0) != made)
                faults.Add($"had {what} changed from {(made == 0 ? "no limit" : words(made))} to {(is_ is > 0 ? words(is_.Value) : "no limit")}");
        }
        Compare("its memory", has.Memory, limits.MemoryBytes, Quantities.FormatBytes);
        if (swap && has.Memory == limits.MemoryBytes)
            Compare("its memory and swap", has.MemorySwap, limits.MemoryBytes, Quantities.FormatBytes);
        Compare("its processors", has.NanoCPUs, (long)(limits.Cpus * 1e9), n => $"{n / 1e9:0.##}");
        Compare("its processes", has.PidsLimit, limits.Pids, n => $"{n}");
        if (has.CPUQuota > 0 || has.CpusetCpus is { Length: > 0 } || has.CPUShares is not (0 or DefaultShares))
            faults.Add("had its share of the processors changed");
        if (has.RestartPolicy?.Name != RestartPolicyKind.UnlessStopped)
            faults.Add($"had its restart policy changed to {has.RestartPolicy?.Name.ToString().ToLowerInvariant()}");
        return faults;
    }
}
