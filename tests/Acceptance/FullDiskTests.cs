using System.Net;

namespace Appoxy.Tests.Acceptance;

/// <summary>Disks that are full, each for real: a small file system stands where droidd or Docker write.</summary>
[Collection(ThirdLane.Name)]
public sealed class FullDiskTests(Install install)
{
    [Fact]
    public async Task Full_disk_fails_a_deployment_in_its_own_words_and_the_next_one_works_once_there_is_room()
    {
        var repository = await install.RepositoryOfAsync("folder", "full");
        string[] main = ["--git", repository.Url, "--ref", "main"];
        await install.MustAsync("apps", "create", "full");
        await install.MustAsync(["deploy", "full", .. main]);
        var uid = (await install.DroidAsync("full")).Uid;
        await ServesAsync("1");

        // A step of a build, in whose words Docker tells no more than an exit code: what it fills has 64 MB.
        await repository.ReplaceAsync("Dockerfile", "USER nobody", "RUN head -c 100000000 /dev/zero > /dev/shm/large\nUSER nobody");
        await FailsAsync("No space left on device");
        await repository.ReplaceAsync("Dockerfile", "RUN head -c 100000000 /dev/zero > /dev/shm/large\n", "");

        await File.WriteAllBytesAsync(Path.Combine(repository.Folder, "large"), System.Security.Cryptography.RandomNumberGenerator.GetBytes(8 << 20));
        await repository.ReplaceAsync("version.txt", "1", "2");
        await using (await MountAsync(Path.Combine(install.Prefix, "var/lib/appoxy/docker/tmp"), "2m"))
            await FailsAsync("disk is full");

        var folder = Path.Combine(install.Prefix, "var/lib/appoxy/droids", uid);
        await using (await MountAsync(folder, "4m"))
        {
            // The clone finds no room; what it took makes room for the log.
            await FailsAsync("disk is full");

            // Now there is none for anything, not for the log either.
            var filler = Path.Combine(folder, "filler");
            await install.RunAsync("dd", ["if=/dev/zero", "of=" + filler, "bs=4k"]);
            await FailsAsync(null);
            await install.MustAsync("snooze", "full");
            await ServesAsync("1");

            File.Delete(filler);
            await repository.GitAsync("rm", "-q", "large");
            await repository.CommitAsync("smaller");
            await install.MustAsync(["deploy", "full", .. main]);
            await ServesAsync("2");
        }
        await install.MustAsync("apps", "destroy", "full", "--confirm", "full");

        async Task FailsAsync(string? logged)
        {
            var ran = await install.AppoxyAsync(["deploy", "full", .. main]);
            Assert.True(ran.ExitCode == 1, ran.ToString());
            Assert.Contains("disk is full", ran.Error, StringComparison.Ordinal);
            var newest = await install.NewestAsync("full");
            Assert.Equal(DeploymentStates.Failed, newest.GetProperty("state").GetString());
            Assert.Equal(FailureReasons.DiskFull, newest.GetProperty("reason").GetString());
            if (logged is not null)
                Assert.Contains(logged, await install.MustAsync("logs", "full", "--build", newest.GetProperty("number").ToString()), StringComparison.Ordinal);
            await ServesAsync("1");
        }
    }

    private async Task ServesAsync(string version)
    {
        var (status, body, _) = await install.GetAsync("full.localhost");
        Assert.Equal(HttpStatusCode.OK, status);
        Assert.Equal(version + "\n", body);
    }

    /// <summary>Puts a small file system in the place of a folder, with what was in it, until it is disposed: then what it holds goes back.</summary>
    private async Task<Mount> MountAsync(string folder, string size)
    {
        var aside = folder + ".aside";
        await MustAsync("cp", "-aT", folder, aside);
        await MustAsync("mount", "-t", "tmpfs", "-o", $"size={size},mode=700", "tmpfs", folder);
        await MustAsync("cp", "-aT", aside, folder);
        return new Mount(async () =>
        {
            await MustAsync("rm", "-rf", aside);
            await MustAsync("cp", "-aT", folder, aside);
            await MustAsync("umount", "-l", folder);
            await MustAsync("cp", "-aT", aside, folder);
            await MustAsync("rm", "-rf", aside);
        });
    }

    private async Task MustAsync(string command, params string[] arguments)
    {
        var ran = await install.RunAsync(command, arguments);
        Assert.True(ran.ExitCode == 0, $"{command} {string.Join(' ', arguments)}: {ran}");
    }

    private sealed class Mount(Func<Task> unmount) : IAsyncDisposable
    {
        public async ValueTask DisposeAsync() => await unmount();
    }
}
