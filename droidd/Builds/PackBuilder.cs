using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Appoxy.Droidd.Images;
using Docker.DotNet;

namespace Appoxy.Droidd.Builds;

/// <summary>
/// Makes a builder of a list of buildpacks: finds the stack that all of them support, and has <c>pack builder create</c> put them
/// together. The same list gives the same builder, which is made once.
/// </summary>
internal sealed class PackBuilder(DockerClient docker, DroidImages images, BroughtImages brought, Pack pack, DroiddSettings settings)
{
    private readonly SemaphoreSlim gate = new(1, 1);

    /// <exception cref="BuildException">A buildpack can't be had or is none, or no stack is supported by all of them.</exception>
    public async Task<(string Name, string Id)> CreateAsync(IReadOnlyList<string> buildpacks, string work, BuildLog log, CancellationToken cancel)
    {
        var found = new List<Buildpack>();
        foreach (var image in buildpacks)
        {
            var id = await images.EnsureAsync(image, "the buildpack", FailureReasons.Builder, log, cancel);
            found.Add(Read(image, id, (await docker.Images.InspectImageAsync(id, cancel)).Config?.Labels));
        }
        var stack = Shared(found, settings.BuildStacks, Architecture);
        log.Say($"-----> Buildpacks {string.Join(", ", found.Select(b => $"{b.Id} {b.Version}"))} on {(stack.Id.Length > 0 ? stack.Id : stack.Distro)}");
        var config = Config(found, stack, settings.Lifecycle);
        // By what is in it: a buildpack's image that was pulled anew gives another builder.
        var contents = config + string.Join('\n', found.Select(b => b.ImageId));
        var name = "appoxy-builder/" + Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(contents)))[..16];
        await gate.WaitAsync(cancel);
        try
        {
            brought.Add(name);
            if (await images.FindAsync(name, cancel) is { } made)
                return (name, made);
            var file = Path.Combine(work, "builder.toml");
            await File.WriteAllTextAsync(file, config, cancel);
            log.Say("-----> Making their builder");
            await pack.RunAsync(["builder", "create", name, "--config", file, "--pull-policy", "if-not-present", "--no-color"], log, cancel);
            return (name, await images.FindAsync(name, cancel) ?? throw new BuildException(FailureReasons.Builder, "pack made no builder"));
        }
        finally
        {
            gate.Release();
        }
    }

    private static string Architecture => RuntimeInformation.OSArchitecture == System.Runtime.InteropServices.Architecture.Arm64 ? "arm64" : "amd64";

    /// <summary>What a buildpack's image tells of it by its labels.</summary>
    internal static Buildpack Read(string image, string imageId, IDictionary<string, string>? labels)
    {
        try
        {
            if (labels?.TryGetValue("io.buildpacks.buildpackage.metadata", out var metadata) == true
                && labels.TryGetValue("io.buildpacks.buildpack.layers", out var layers)
                && JsonSerializer.Deserialize(metadata, PackJson.Default.BuildpackMetadata) is { Id: { } id, Version: { } version }
                && JsonSerializer.Deserialize(layers, PackJson.Default.BuildpackLayers) is { } all)
                // One that only orders others runs nothing itself, and says nothing of stacks.
                return new Buildpack(image, imageId, id, version, [.. all.Values.SelectMany(v => v.Values).Where(b => b.Order is null)]);
        }
        catch (JsonException)
        {
            // As if it had no such label.
        }
        throw new BuildException(FailureReasons.Builder, $"the image {image} is no buildpack: its labels do not say so");
    }

    /// <summary>The first stack that all buildpacks support.</summary>
    internal static BuildStack Shared(IReadOnlyList<Buildpack> buildpacks, IReadOnlyList<BuildStack> stacks, string architecture) =>
        stacks.FirstOrDefault(s => buildpacks.All(b => b.Supports(s, architecture)))
        ?? throw new BuildException(FailureReasons.Builder, "the buildpacks have no stack in common: "
            + string.Join("; ", buildpacks.Select(b => $"{b.Id} runs on {b.On(stacks, architecture)}")));

    /// <summary>The text of <c>builder.toml</c>: one group, in which all of them take part.</summary>
    internal static string Config(IReadOnlyList<Buildpack> buildpacks, BuildStack stack, string lifecycle)
    {
        var text = new StringBuilder();
        foreach (var buildpack in buildpacks)
            text.Append($"[[buildpacks]]\nuri = {Quoted("docker://" + buildpack.Image)}\n\n");
        text.Append("[[order]]\n\n");
        foreach (var buildpack in buildpacks)
            text.Append($"[[order.group]]\nid = {Quoted(buildpack.Id)}\nversion = {Quoted(buildpack.Version)}\noptional = false\n\n");
        text.Append($"[build]\nimage = {Quoted(stack.Build)}\n\n[[run.images]]\nimage = {Quoted(stack.Run)}\n");
        if (lifecycle.Length > 0)
            text.Append(lifecycle[0] == '/' ? $"\n[lifecycle]\nuri = {Quoted("file://" + lifecycle)}\n" : $"\n[lifecycle]\nversion = {Quoted(lifecycle)}\n");
        return text.ToString();
    }

    /// <summary>A TOML string; what JSON escapes, TOML reads alike.</summary>
    private static string Quoted(string text) => $"\"{JsonEncodedText.Encode(text)}\"";
}

/// <summary>A buildpack as its image's labels tell of it.</summary>
/// <param name="Image">The image's name.</param>
/// <param name="ImageId">Docker's id of it.</param>
/// <param name="Id">As <c>heroku/nodejs</c>.</param>
/// <param name="Version">Its version.</param>
/// <param name="Parts">It and those that come with it, each with where it runs.</param>
internal sealed record Buildpack(string Image, string ImageId, string Id, string Version, IReadOnlyList<BuildpackPart> Parts)
{
    public bool Supports(BuildStack stack, string architecture) => Parts.All(p => p.Supports(stack, architecture));

    /// <summary>Which of the stacks it supports, in words.</summary>
    public string On(IReadOnlyList<BuildStack> stacks, string architecture) =>
        string.Join(", ", stacks.Where(s => Supports(s, architecture)).Select(s => s.Id.Length > 0 ? s.Id : s.Distro)) is { Length: > 0 } some
            ? some : "none that this server has";
}

internal sealed record BuildpackMetadata(string? Id, string? Version);

internal sealed class BuildpackLayers : Dictionary<string, Dictionary<string, BuildpackPart>>;

/// <summary>Where a buildpack runs; one that says nothing runs anywhere.</summary>
internal sealed record BuildpackPart(IReadOnlyList<BuildpackStack>? Stacks, IReadOnlyList<BuildpackTarget>? Targets, JsonElement? Order)
{
    public bool Supports(BuildStack stack, string architecture)
    {
        if (Stacks is not { Count: > 0 } && Targets is not { Count: > 0 })
            return true;
        return Stacks?.Any(s => s.Id == "*" || (s.Id.Length > 0 && s.Id == stack.Id)) == true
            || Targets?.Any(t => t.Os is null or "" or "linux" && (t.Arch is null or "" || t.Arch == architecture)
                && (t.Distros is not { Count: > 0 } || t.Distros.Any(d => $"{d.Name}@{d.Version}" == stack.Distro
                    || (string.IsNullOrEmpty(d.Version) && stack.Distro.StartsWith(d.Name + "@", StringComparison.Ordinal))))) == true;
    }
}

internal sealed record BuildpackStack(string Id);

internal sealed record BuildpackTarget(string? Os, string? Arch, IReadOnlyList<BuildpackDistro>? Distros);

internal sealed record BuildpackDistro(string Name, string? Version);

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web)]
[JsonSerializable(typeof(BuildpackMetadata))]
[JsonSerializable(typeof(BuildpackLayers))]
internal sealed partial class PackJson : JsonSerializerContext;
