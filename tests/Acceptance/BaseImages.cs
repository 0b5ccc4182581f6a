namespace Appoxy.Tests;

/// <summary>The images that test apps build on, made of Debian's packages since no registry is needed for them.</summary>
internal static class BaseImages
{
    private const string Cache = "/var/cache/appoxy-tests";
    private const string Node = "appoxy-test/node:18";

    // Whether this run has saved the image with node, for installs to come.
    private static bool saved;

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
        await LoadNodeAsync(install);
        await LabelledAsync(install, "builder", Node, ("io.buildpacks.builder.metadata",
            """{"description":"","buildpacks":[{"id":"appoxy-test/procfile","version":"0"}],"stack":{"runImage":{"image":"appoxy-test/builder"}}}"""));
        foreach (var (name, version, runs) in new[]
        {
            ("by-stack", "1.0.0", """ "stacks":[{"id":"appoxy.test"}] """),
            ("by-target", "2.1.0", """ "targets":[{"os":"linux","arch":"","distros":[{"name":"debian","version":"12"}]}] """),
            ("elsewhere", "1.0.0", """ "stacks":[{"id":"another.stack"}] """),
        })
        {
            await LabelledAsync(install, name, "scratch",
                ("io.buildpacks.buildpackage.metadata", $$"""{"id":"test/{{name}}","version":"{{version}}"}"""),
                ("io.buildpacks.buildpack.layers", $$$"""{ "test/{{{name}}}": { "{{{version}}}": { "api": "0.10", {{{runs}}} } } }"""));
        }
    }

    /// <summary>Debian, and node on it; the first install of a run makes it, the others take its image.</summary>
    private static async Task LoadNodeAsync(Install install)
    {
        var tar = Path.Combine(Cache, "node.tar");
        if (saved)
        {
            await MustAsync(install, "docker", "load", "-q", "-i", tar);
            return;
        }
        await MustAsync(install, "docker", "import", Path.Combine(Cache, "bookworm.tar"), "appoxy-test/bookworm");
        var context = Directory.CreateDirectory(Path.Combine(install.Prefix, "node")).FullName;
        File.Copy("/etc/ssl/certs/ca-certificates.crt", Path.Combine(context, "ca.crt"), overwrite: true);
        await File.WriteAllTextAsync(Path.Combine(context, "Dockerfile"), """
            FROM appoxy-test/bookworm
            RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm ca-certificates && rm -rf /var/lib/apt/lists/*
            COPY ca.crt /etc/ssl/certs/ca-certificates.crt
            """);
        await MustAsync(install, "docker", "build", "-q", "--network", "droid-build", "-t", Node, context);
        await MustAsync(install, "docker", "save", "-o", tar, Node, "appoxy-test/bookworm");
        saved = true;
    }

    /// <summary>
    /// Gives a new install what an earlier one has built; provision.sh builds anew what was made of other sources.
    /// </summary>
    public static async Task TakeBuiltAsync(Install install)
    {
        if (!Directory.Exists(Path.Combine(Cache, "built")))
            return;
        Directory.CreateDirectory(Path.Combine(install.Prefix, "usr/lib"));
        await MustAsync(install, "cp", "-aT", Path.Combine(Cache, "built"), Path.Combine(install.Prefix, "usr/lib/appoxy"));
    }

    /// <summary>Keeps what an install has built for those to come.</summary>
    public static async Task KeepBuiltAsync(Install install)
    {
        Directory.CreateDirectory(Cache);
        var (built, next) = (Path.Combine(Cache, "built"), Path.Combine(Cache, "built.next"));
        await MustAsync(install, "rm", "-rf", built, next);
        await MustAsync(install, "cp", "-aT", Path.Combine(install.Prefix, "usr/lib/appoxy"), next);
        Directory.Move(next, built);
    }

    /// <summary>Lets droidd build with the stand-in for pack and its builder, in one place, and with limits that tests can reach.</summary>
    public static async Task WriteSettingsAsync(Install install)
    {
        var folder = Directory.CreateDirectory(Path.Combine(install.Prefix, "etc/appoxy")).FullName;
        await File.WriteAllTextAsync(Path.Combine(folder, "droidd.local.json"), $$"""
            {
              "pack": "{{install.Repository}}/tests/pack/pack", "defaultBuilder": "appoxy-test/builder",
              "stacks": [
                { "id": "test.unused", "build": "appoxy-test/nowhere", "run": "appoxy-test/nowhere" },
                { "id": "appoxy.test", "distro": "debian@12", "build": "appoxy-test/builder", "run": "appoxy-test/builder" }
              ],
              "builds": "1", "buildMemory": "1g", "uploadLimit": "8m", "sourceLimit": "64m"
            }
            """);
    }

    /// <summary>The .NET SDK of this machine as an image, and one with no more than what apps that bring their own runtime need.</summary>
    public static async Task LoadDotnetAsync(Install install)
    {
        var context = Directory.CreateDirectory(Path.Combine(install.Prefix, "dotnet-deps")).FullName;
        File.Copy("/etc/ssl/certs/ca-certificates.crt", Path.Combine(context, "ca.crt"), overwrite: true);
        await File.WriteAllTextAsync(Path.Combine(context, "Dockerfile"), """
            FROM appoxy-test/bookworm
            RUN apt-get update && apt-get install -y --no-install-recommends libssl3 libstdc++6 zlib1g && rm -rf /var/lib/apt/lists/*
            COPY ca.crt /etc/ssl/certs/ca-certificates.crt
            """);
        await MustAsync(install, "docker", "build", "-q", "--network", "droid-build", "-t", "appoxy-test/dotnet-deps", context);
        var dockerfile = Path.Combine(install.Prefix, "dotnet.Dockerfile");
        await File.WriteAllTextAsync(dockerfile, """
            FROM appoxy-test/dotnet-deps
            ENV PATH=/usr/share/dotnet:$PATH DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
            COPY . /usr/share/dotnet
            """);
        var sdk = Path.GetFullPath(Path.Combine(System.Runtime.InteropServices.RuntimeEnvironment.GetRuntimeDirectory(), "../../.."));
        await MustAsync(install, "docker", "build", "-q", "-t", "appoxy-test/dotnet", "-f", dockerfile, sdk);
    }

    private static async Task LabelledAsync(Install install, string name, string from, params (string Name, string Value)[] labels)
    {
        var context = Directory.CreateDirectory(Path.Combine(install.Prefix, name)).FullName;
        await File.WriteAllTextAsync(Path.Combine(context, "Dockerfile"),
            $"FROM {from}\n" + string.Concat(labels.Select(l => $"LABEL {l.Name}='{l.Value}'\n")));
        await MustAsync(install, "docker", "build", "-q", "-t", "appoxy-test/" + name, context);
    }

    private static async Task MustAsync(Install install, string command, params string[] arguments)
    {
        var ran = await install.RunAsync(command, arguments);
        Assert.True(ran.ExitCode == 0, $"{command} {string.Join(' ', arguments)}: {ran}");
    }
}
