using Appoxy.Droidd;
using Appoxy.Droidd.Droids;
using Appoxy.Droidd.Isolation;
using Appoxy.Droidd.LocalNginx;
using Appoxy.Droidd.Snooze;
using Appoxy.Droidd.Volumes;
using Docker.DotNet;
using Docker.DotNet.Models;
using Microsoft.Extensions.Logging.Abstractions;

namespace Appoxy.Tests.Unit;

public sealed class MeddlingTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("appoxy-unit-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private static HostConfig Made(DroidLimits limits) => new()
    {
        Memory = limits.MemoryBytes, MemorySwap = limits.MemoryBytes, NanoCPUs = (long)(limits.Cpus * 1e9), PidsLimit = limits.Pids,
        RestartPolicy = new RestartPolicy { Name = RestartPolicyKind.UnlessStopped },
    };

    [Fact]
    public void Container_with_the_limits_that_it_was_made_with_is_left_alone()
    {
        foreach (var limits in new[] { new DroidLimits(), new DroidLimits(64 << 20, 0.5, 100), new DroidLimits(0, 0, 0) })
            Assert.Empty(DroidContainers.Faults(limits, Made(limits)));
        var unlimited = Made(new DroidLimits(0, 0, 0));
        (unlimited.PidsLimit, unlimited.CPUShares) = (-1, 1024);
        Assert.Empty(DroidContainers.Faults(new DroidLimits(0, 0, 0), unlimited));
        unlimited.PidsLimit = null;
        Assert.Empty(DroidContainers.Faults(new DroidLimits(0, 0, 0), unlimited));
    }

    [Fact]
    public void Each_limit_that_was_changed_by_hand_is_named()
    {
        void Named(string words, Action<HostConfig> meddle)
        {
            var has = Made(new DroidLimits(64 << 20, 0.5, 100));
            meddle(has);
            Assert.Equal(words, Assert.Single(DroidContainers.Faults(new DroidLimits(64 << 20, 0.5, 100), has)));
        }
        Named("had its memory changed from 64m to 32m", h => (h.Memory, h.MemorySwap) = (32 << 20, 32 << 20));
        Named("had its memory changed from 64m to no limit", h => (h.Memory, h.MemorySwap) = (0, 0));
        Named("had its memory and swap changed from 64m to no limit", h => h.MemorySwap = -1);
        Named("had its processors changed from 0.5 to 2", h => h.NanoCPUs = 2_000_000_000);
        Named("had its processes changed from 100 to no limit", h => h.PidsLimit = -1);
        Named("had its share of the processors changed", h => h.CPUShares = 2);
        Named("had its share of the processors changed", h => h.CpusetCpus = "0");
        Named("had its restart policy changed to no", h => h.RestartPolicy = new RestartPolicy { Name = RestartPolicyKind.No });
        Assert.Equal(["had its processors changed from no limit to 1"],
            DroidContainers.Faults(new DroidLimits(0, 0, 0), Made(new DroidLimits(0, 1, 0))));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(-1)]
    public async Task Jump_of_the_wall_clock_neither_sends_a_droid_to_sleep_nor_hides_what_befalls_it(int hours)
    {
        var clock = new JumpyClock();
        using var droid = Droid(clock);
        await droid.RecoverAsync([new DroidContainer("c", "abcdefg", "i", "192.0.2.1:7000", "running", droid.Spec!)], CancellationToken.None);
        var idleness = new Idleness(clock);
        var visits = new Dictionary<string, long> { ["abcdefg"] = clock.Wall };
        idleness.Take(new Activity(clock.Wall, visits, new Dictionary<string, int>()));
        droid.NoteOutOfMemory();
        clock.Pass(TimeSpan.FromSeconds(60));
        clock.Jump(TimeSpan.FromHours(hours));
        var seen = new Activity(clock.Wall, visits, new Dictionary<string, int>());
        idleness.Take(seen);
        Assert.Equal((DroidStates.Paused, TimeSpan.FromSeconds(240)), IdleWatch.Due(droid, seen, idleness));
        // It is told of once in ten seconds, and shown for ten minutes.
        droid.NoteOutOfMemory();
        droid.NoteOutOfMemory();
        Assert.Equal(2, (await File.ReadAllLinesAsync(droid.Folder.Events)).Length);
        Assert.NotNull(droid.Trouble);
        clock.Pass(TimeSpan.FromMinutes(11));
        Assert.Null(droid.Trouble);
        Assert.Equal(DroidStates.Running, droid.State);
    }

    private Droid Droid(TimeProvider clock)
    {
        var settings = new DroiddSettings { DataDir = folder, Docker = $"unix://{folder}/docker.sock" };
        (settings.Nginx.ControlSocket, settings.Nginx.Snapshot) = (Path.Combine(folder, "nginx.sock"), Path.Combine(folder, "snapshot"));
        var docker = new DockerClientBuilder().WithEndpoint(new Uri(settings.Docker)).Build();
        var containers = new DroidContainers(docker, settings, new Firewall(docker, settings, NullLogger<Firewall>.Instance, clock), new DroidVolumes(docker), clock);
        return new Droid("abcdefg", containers, new DroidDict(settings, NullLogger<DroidDict>.Instance), new DroidFolder(folder, "abcdefg"), NullLogger.Instance, clock)
        {
            Spec = new DroidSpec { Uid = "abcdefg", App = "shop", Generation = 1, Deployment = 1, Source = new DroidSource { Image = "shop" } },
        };
    }
}
