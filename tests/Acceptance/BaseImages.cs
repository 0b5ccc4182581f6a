namespace Appoxy.Tests;

/// <summary>The images that test apps build on, made of Debian's packages since no registry is needed for them.</summary>
internal static class BaseImages
{
    private const string Cache = "/var/cache/appoxy-tests";

    public static async Task LoadAsync(Install install)
    {
        var tar = Path.Combine(Cache, "bookworm.tar");
        if (!File.Exists(tar))
        {
            Directory.CreateDirectory(Cache);
            var root = Path.Combine(Cache, "bookworm");
            await MustAsync(install, "rm", "-rf", root);
            await MustAsync(install, "debootstrap", "--variant=minbase", "bookworm", root);
            await MustAsync(install, "tar", "-C", root, "-cf", tar + ".next", ".");
            File.Move(tar + ".next", tar);
            await MustAsync(install, "rm", "-rf", root);
        }
        await MustAsync(install, "docker", "import", tar, "appoxy-test/bookworm");
        var context = Directory.CreateDirectory(Path.Combine(install.Prefix, "node")).FullName;
        File.Copy("/etc/ssl/certs/ca-certificates.crt", Path.Combine(context, "ca.crt"), overwrite: true);
        await File.WriteAllTextAsync(Path.Combine(context, "Dockerfile"), """
            FROM appoxy-test/bookworm
            RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm ca-certificates && rm -rf /var/lib/apt/lists/*
            COPY ca.crt /etc/ssl/certs/ca-certificates.crt
            """);
        await MustAsync(install, "docker", "build", "-q", "--network", "droid-build", "-t", "appoxy-test/node:18", context);
    }

    private static async Task MustAsync(Install install, string command, params string[] arguments)
    {
        var ran = await install.RunAsync(command, arguments);
        Assert.True(ran.ExitCode == 0, $"{command} {string.Join(' ', arguments)}: {ran}");
    }
}
