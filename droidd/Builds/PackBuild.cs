using System.Text.Json;
using Appoxy.Droidd.Images;
using Docker.DotNet;

namespace Appoxy.Droidd.Builds;

/// <summary>
/// Builds an image with buildpacks. A builder that pack does not know as trusted never sees the Docker socket, so that users may
/// name any: pack then runs the phases that need it from its own lifecycle image.
/// </summary>
internal sealed class PackBuild(
    DockerClient docker, DroidImages images, Pack pack, PackBuilder builders, DroiddSettings settings, ILogger<PackBuild> logger)
{
    /// <summary>Brings the builder here that a spec asks for; its name and its image's id.</summary>
    /// <param name="spec">What is wanted.</param>
    /// <param name="work">A folder for what pack reads.</param>
    /// <param name="log">Gets what Docker and pack say.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="BuildException">The builder or one of its buildpacks can't be had, or they don't go together.</exception>
    public async Task<(string Name, string Id)> BuilderAsync(DroidSpec spec, string work, BuildLog log, CancellationToken cancel)
    {
        if (spec.Builder == "auto" && spec.Buildpacks.Count > 0)
            return await builders.CreateAsync(spec.Buildpacks, work, log, cancel);
        var name = spec.Builder.StartsWith("pack:", StringComparison.Ordinal) ? spec.Builder["pack:".Length..] : settings.DefaultBuilder;
        return (name, await images.EnsureAsync(name, "the builder", FailureReasons.Builder, log, cancel));
    }

    /// <summary>Builds <paramref name="folder"/>; the image's id.</summary>
    /// <exception cref="BuildException">No buildpack fits, a step failed, it took too long, or the image has no process type web.</exception>
    public async Task<string> BuildAsync(string folder, string work, string builder, DroidSpec spec, BuildLog log, CancellationToken cancel)
    {
        var descriptor = await ProjectDescriptor.FindAsync(folder, spec.AllowPrivateSources, cancel);
        var image = DroidImages.BuildTag(spec.Uid);
        var environment = Path.Combine(work, "build.env");
        await using var containers = new PackContainers(docker, settings, spec.Uid, work, logger);
        try
        {
            WriteEnvironment(environment, spec.Env, log);
            await containers.BeginAsync(cancel);
            await pack.RunAsync(
            [
                "build", image, "--path", folder, "--builder", builder, "--env-file", environment, "--pull-policy", "if-not-present",
                .. Caches(spec.Uid).SelectMany(c => new[] { "--cache", $"type={c.Type};format=volume;name={c.Volume}" }),
                "--network", settings.BuildNetwork, "--docker-host", settings.Docker, "--default-process", "web", "--no-color",
                .. descriptor is null ? (string[])[] : ["--descriptor", descriptor],
                .. settings.LifecycleImage.Length == 0 ? (string[])[] : ["--lifecycle-image", settings.LifecycleImage],
            ], log, cancel);
        }
        finally
        {
            File.Delete(environment);
        }
        var types = await TypesAsync(image, cancel);
        if (types.All(t => t.Type != ProcessType.Web))
            throw new BuildException(FailureReasons.NoBuilderFits, Pack.NoWeb);
        log.Say($"-----> Process types: {string.Join(", ", types.Select(t => t.Type))}");
        return (await docker.Images.InspectImageAsync(image, cancel)).ID;
    }

    /// <summary>The process types that buildpacks have found, each with the program in the image that runs it.</summary>
    public async Task<IReadOnlyList<ProcessType>> TypesAsync(string image, CancellationToken cancel)
    {
        string? metadata = null;
        (await docker.Images.InspectImageAsync(image, cancel)).Config?.Labels?.TryGetValue("io.buildpacks.build.metadata", out metadata);
        return Types(metadata);
    }

    /// <summary>Removes what a build that droidd did not see the end of has left behind.</summary>
    public Task ClearAsync(string work, CancellationToken cancel) => PackContainers.ClearAsync(docker, work, cancel);

    /// <summary>Removes what builds of an app have kept.</summary>
    public async Task ForgetAsync(string uid, CancellationToken cancel)
    {
        var found = await docker.Volumes.ListAsync(new()
        {
            // pack keeps a third cache by a name of its own, made of the image's.
            Filters = new Dictionary<string, IDictionary<string, bool>>
            {
                ["name"] = Caches(uid).Select(c => c.Volume).Append($"pack-cache-appoxy_{uid}_").ToDictionary(n => n, _ => true),
            },
        }, cancel);
        foreach (var volume in found.Volumes ?? [])
            await docker.Volumes.RemoveAsync(volume.Name, force: true, cancel);
    }

    /// <summary>The caches are the app's own: its builds run one after the other, and two must never share one at once.</summary>
    private static IEnumerable<(string Type, string Volume)> Caches(string uid) =>
        [("build", $"appoxy-cache-{uid}-build"), ("launch", $"appoxy-cache-{uid}-launch")];

    /// <summary>One variable a line: pack knows no quotes there, and would take a second line for another variable.</summary>
    private static void WriteEnvironment(string path, IReadOnlyDictionary<string, string> env, BuildLog log)
    {
        // One that was left behind may have other rights.
        File.Delete(path);
        using var file = new FileStream(path, new FileStreamOptions
        {
            Mode = FileMode.CreateNew, Access = FileAccess.Write, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        });
        using var writer = new StreamWriter(file) { NewLine = "\n" };
        foreach (var (name, value) in env.OrderBy(e => e.Key, StringComparer.Ordinal))
        {
            if (value.AsSpan().ContainsAny('\n', '\r'))
                log.Say($"       {name} has several lines; the app has it when it runs, the build has not");
            else
                writer.WriteLine($"{name}={value}");
        }
    }

    /// <summary>The process types that an image's label tells.</summary>
    internal static IReadOnlyList<ProcessType> Types(string? label)
    {
        try
        {
            using var json = JsonDocument.Parse(label ?? "{}");
            return json.RootElement.TryGetProperty("processes", out var processes) && processes.ValueKind == JsonValueKind.Array
                ? Procfile.InOrder(processes.EnumerateArray().Select(Read).Where(t => Names.IsProcessType(t.Type)).DistinctBy(t => t.Type)) : [];
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            return [];
        }
    }

    private static ProcessType Read(JsonElement process)
    {
        var type = process.GetProperty("type").GetString() ?? "";
        // Older lifecycles write the command as one text, newer ones as a list.
        IEnumerable<string?> Words(string member) => !process.TryGetProperty(member, out var words) ? []
            : words.ValueKind == JsonValueKind.Array ? words.EnumerateArray().Select(w => w.GetString()) : [words.GetString()];
        return new ProcessType(type, string.Join(' ', Words("command").Concat(Words("args"))), "/cnb/process/" + type);
    }
}
