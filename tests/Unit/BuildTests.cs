using System.Formats.Tar;
using System.IO.Compression;
using Appoxy.Droidd;
using Appoxy.Droidd.Builds;

namespace Appoxy.Tests.Unit;

public sealed class BuildTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("appoxy-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Theory]
    [InlineData("failed to build: executing lifecycle: failed with status code: 20", FailureReasons.NoBuilderFits, "code 20")]
    [InlineData("failed to build: executing lifecycle: failed with status code: 51", FailureReasons.Build, "a buildpack's build failed")]
    [InlineData("failed to build: executing lifecycle: failed with status code: 62", FailureReasons.Export, "code 62")]
    [InlineData("failed to build: executing lifecycle: failed with status code: 11", FailureReasons.Builder, "code 11")]
    [InlineData("failed to build: executing lifecycle: failed with status code: 137", FailureReasons.Build, "memory")]
    [InlineData("failed to export: determining entrypoint: tried to set web to default but it doesn't exist|failed to build: executing lifecycle: failed with status code: 62",
        FailureReasons.NoBuilderFits, "Procfile")]
    [InlineData("failed to build: write /x: no space left on device", FailureReasons.DiskFull, "disk is full")]
    [InlineData("failed to build: invalid builder 'x': missing label", FailureReasons.Build, "invalid builder 'x': missing label")]
    [InlineData("", FailureReasons.Build, "exit code 7")]
    public void Pack_faults_get_our_own_words(string error, string reason, string words)
    {
        var fault = Pack.Failed(error.Split('|', StringSplitOptions.RemoveEmptyEntries), 7);
        Assert.Equal(reason, fault.Reason);
        Assert.Contains(words, fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Server_without_pack_says_so()
    {
        using var log = new BuildLog(folder);
        var pack = new Pack(new DroiddSettings { Pack = "/nowhere/pack", DataDir = folder });
        var fault = await Assert.ThrowsAsync<BuildException>(() => pack.RunAsync(["build"], log, default));
        Assert.Equal(FailureReasons.NoPack, fault.Reason);
        Assert.Contains("/nowhere/pack", fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Pack_that_takes_too_long_is_told_to_stop()
    {
        var script = Path.Combine(folder, "pack");
        await File.WriteAllTextAsync(script, "#!/bin/sh\ntrap 'echo stopped; exit 1' TERM\nwhile :; do sleep 0.1; done\n");
        File.SetUnixFileMode(script, (UnixFileMode)0b111_101_101);
        using var log = new BuildLog(folder);
        var pack = new Pack(new DroiddSettings { Pack = script, DataDir = folder, BuildTimeout = "1s" });
        var fault = await Assert.ThrowsAsync<BuildException>(() => pack.RunAsync(["build"], log, default));
        Assert.Equal(FailureReasons.Timeout, fault.Reason);
        Assert.Equal("stopped\n", await File.ReadAllTextAsync(BuildLog.PathOf(folder, "out")));
    }

    [Fact]
    public async Task Queue_lets_in_by_order_and_skips_who_has_left()
    {
        var queue = new BuildQueue(2);
        var told = new List<string>();
        Task<IDisposable> Enter(string who, CancellationToken cancel = default) => queue.EnterAsync(ahead =>
        {
            lock (told)
                told.Add($"{who}{ahead}");
        }, cancel);
        var (a, b) = (await Enter("a"), await Enter("b"));
        using var leaves = new CancellationTokenSource();
        var c = Enter("c", leaves.Token);
        var d = Enter("d");
        await Task.Delay(100);
        Assert.False(c.IsCompleted || d.IsCompleted);
        await leaves.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => c);
        await Task.Delay(100);
        lock (told)
            Assert.Equal(["c2", "d2", "d3"], told.Order());
        a.Dispose();
        a.Dispose();
        var e = Enter("e");
        var entered = await d.WaitAsync(TimeSpan.FromSeconds(5));
        Assert.False(e.IsCompleted);
        b.Dispose();
        entered.Dispose();
        (await e.WaitAsync(TimeSpan.FromSeconds(5))).Dispose();
    }

    [Theory]
    [InlineData("a/b", "a/b")]
    [InlineData("./a//b/", "a/b")]
    [InlineData("./", "")]
    [InlineData("../a", null)]
    [InlineData("a/../../b", null)]
    [InlineData("/a", null)]
    [InlineData("link/a", null)]
    [InlineData("link", "link")]
    public void Names_stay_inside(string name, string? expected) =>
        Assert.Equal(expected, UploadedFolder.Inside(name, new HashSet<string> { "link" }));

    [Theory]
    [InlineData("a", "b", true)]
    [InlineData("a/b", "../c", true)]
    [InlineData("a", "../c", false)]
    [InlineData("a", "b/../c", false)]
    [InlineData("a/b", "../../c", false)]
    [InlineData("a", "/etc/passwd", false)]
    [InlineData("a", "", false)]
    public void Links_stay_inside(string name, string link, bool expected) => Assert.Equal(expected, UploadedFolder.StaysInside(name, link));

    [Fact]
    public async Task Upload_is_unpacked_with_its_modes_but_without_setuid()
    {
        var uploads = new UploadedFolder(new DroiddSettings());
        var upload = await TakeAsync(uploads,
            new GnuTarEntry(TarEntryType.Directory, "./"),
            new GnuTarEntry(TarEntryType.RegularFile, "./bin/run") { Mode = (UnixFileMode)0b100_111_101_101, DataStream = new MemoryStream("x"u8.ToArray()) },
            new GnuTarEntry(TarEntryType.SymbolicLink, "run") { LinkName = "bin/run" });
        var target = Path.Combine(folder, "source");
        await uploads.UnpackAsync(folder, upload.Id, target, default);
        Assert.Equal("x", await File.ReadAllTextAsync(Path.Combine(target, "run")));
        Assert.Equal((UnixFileMode)0b111_101_101, File.GetUnixFileMode(Path.Combine(target, "bin/run")));
        Assert.Equal("bin/run", new FileInfo(Path.Combine(target, "run")).LinkTarget);
    }

    public static TheoryData<string, TarEntry[]> Hostile => new()
    {
        { "leads out", [new GnuTarEntry(TarEntryType.RegularFile, "a/../../out")] },
        { "leads out", [new GnuTarEntry(TarEntryType.SymbolicLink, "l") { LinkName = "/etc" }] },
        { "leads out", [new GnuTarEntry(TarEntryType.SymbolicLink, "l") { LinkName = "." }, new GnuTarEntry(TarEntryType.RegularFile, "l/x")] },
        { "leads out", [new GnuTarEntry(TarEntryType.SymbolicLink, "l") { LinkName = "." }, new GnuTarEntry(TarEntryType.SymbolicLink, "m") { LinkName = "l/../x" }] },
        { "twice", [new GnuTarEntry(TarEntryType.SymbolicLink, "l") { LinkName = "nowhere" }, new GnuTarEntry(TarEntryType.RegularFile, "l")] },
        { "twice", [new GnuTarEntry(TarEntryType.RegularFile, "f"), new GnuTarEntry(TarEntryType.RegularFile, "f")] },
        { "neither", [new GnuTarEntry(TarEntryType.HardLink, "h") { LinkName = "/etc/shadow" }] },
        { "neither", [new GnuTarEntry(TarEntryType.CharacterDevice, "null") { DeviceMajor = 1, DeviceMinor = 3 }] },
        { "neither", [new GnuTarEntry(TarEntryType.Fifo, "fifo")] },
    };

    [Theory]
    [MemberData(nameof(Hostile))]
    public async Task Hostile_tarball_is_refused(string words, TarEntry[] entries)
    {
        var uploads = new UploadedFolder(new DroiddSettings());
        var upload = await TakeAsync(uploads, entries);
        var fault = await Assert.ThrowsAsync<BuildException>(() => uploads.UnpackAsync(folder, upload.Id, Path.Combine(folder, "source"), default));
        Assert.Contains(words, fault.Message, StringComparison.Ordinal);
        Assert.False(Path.Exists(Path.Combine(folder, "out")));
    }

    [Fact]
    public async Task Uploads_that_no_deployment_needs_make_room()
    {
        var uploads = new UploadedFolder(new DroiddSettings());
        var first = await TakeAsync(uploads, new GnuTarEntry(TarEntryType.RegularFile, "0"));
        for (var i = 1; i < 8; i++)
        {
            using var bytes = Tar(new GnuTarEntry(TarEntryType.RegularFile, $"{i}"));
            await uploads.TakeAsync(folder, bytes, [first.Id], default);
        }
        Assert.True(File.Exists(Path.Combine(folder, first.Id + ".tar.gz")));
        Assert.InRange(Directory.GetFiles(folder, "*.tar.gz").Length, 2, 6);
    }

    [Theory]
    [InlineData("uri = \"docker://x/y\"", null)]
    [InlineData("uri = \"urn:cnb:builder:a/b\"", null)]
    [InlineData("id = \"a/b\"", null)]
    [InlineData("uri = \"mine\"", null)]
    [InlineData("uri = \"../mine\"", "leads out")]
    [InlineData("URI = \"/etc\"", "leads out")]
    [InlineData("uri = \"link\"", "goes through a link")]
    [InlineData("uri = \"file:///etc\"", "no address")]
    [InlineData("uri = \"http://127.0.0.1/x.tgz\"", "private address")]
    [InlineData("uri = ", "project.toml")]
    public async Task Descriptor_may_not_name_what_is_not_the_users(string line, string? fault)
    {
        await File.WriteAllTextAsync(Path.Combine(folder, "project.toml"), $"[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\n{line}\n");
        Directory.CreateSymbolicLink(Path.Combine(folder, "link"), "/etc");
        if (fault is null)
            Assert.Equal(Path.Combine(folder, "project.toml"), await ProjectDescriptor.FindAsync(folder, allowPrivate: false, default));
        else
            Assert.Contains(fault, (await Assert.ThrowsAsync<BuildException>(() => ProjectDescriptor.FindAsync(folder, false, default))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Descriptor_may_be_no_link()
    {
        Assert.Null(await ProjectDescriptor.FindAsync(folder, false, default));
        File.CreateSymbolicLink(Path.Combine(folder, "project.toml"), "/etc/passwd");
        await Assert.ThrowsAsync<BuildException>(() => ProjectDescriptor.FindAsync(folder, false, default));
    }

    [Theory]
    [InlineData("""{"processes":[{"type":"web"},{"type":"worker"}]}""", "web worker")]
    [InlineData("{}", "")]
    [InlineData("nonsense", "")]
    [InlineData(null, "")]
    public void Process_types_come_from_the_label(string? label, string expected) =>
        Assert.Equal(expected, string.Join(' ', PackBuild.Types(label).Select(t => t.Type)));

    public static TheoryData<DroiddSettings, string> BadSettings => new()
    {
        { new DroiddSettings { Pack = "./pack" }, "pack is './pack'" },
        { new DroiddSettings { Pack = "--version" }, "pack is" },
        { new DroiddSettings { DefaultBuilder = "a b" }, "defaultBuilder" },
        { new DroiddSettings { LifecycleImage = "-x" }, "lifecycleImage" },
        { new DroiddSettings { Lifecycle = "newest" }, "lifecycle is" },
        { new DroiddSettings { Builds = "0" }, "builds is" },
        { new DroiddSettings { BuildMemory = "1m" }, "buildMemory" },
        { new DroiddSettings { BuildCpus = -1 }, "buildCpus" },
        { new DroiddSettings { UploadLimit = "0" }, "uploadLimit" },
        { new DroiddSettings { KeptVersions = -1 }, "keptVersions" },
        { new DroiddSettings { Stacks = [new BuildStack { Distro = "ubuntu", Build = "b", Run = "r" }] }, "stacks" },
    };

    [Theory]
    [MemberData(nameof(BadSettings))]
    public void Setting_that_makes_no_sense_is_named_at_the_start(DroiddSettings settings, string named)
    {
        Assert.Contains(new DroiddSettingsValidator().Validate(null, settings).Failures!, f => f.Contains(named, StringComparison.Ordinal));
        Assert.DoesNotContain(new DroiddSettingsValidator().Validate(null, new DroiddSettings()).Failures!,
            f => f.Contains(named.Split(' ')[0], StringComparison.Ordinal));
    }

    private async Task<Upload> TakeAsync(UploadedFolder uploads, params TarEntry[] entries)
    {
        using var bytes = Tar(entries);
        return await uploads.TakeAsync(folder, bytes, [], default);
    }

    private static MemoryStream Tar(params TarEntry[] entries)
    {
        var bytes = new MemoryStream();
        using (var zip = new GZipStream(bytes, CompressionLevel.Fastest, leaveOpen: true))
        using (var tar = new TarWriter(zip, TarEntryFormat.Gnu))
        {
            foreach (var entry in entries)
                tar.WriteEntry(entry);
        }
        bytes.Position = 0;
        return bytes;
    }
}
