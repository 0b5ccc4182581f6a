using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Appoxy.Droidd.Builds;

namespace Appoxy.Droidd.Droids;

/// <summary>What a deployment's build gave.</summary>
/// <param name="Key">The same for builds of the same source in the same way.</param>
/// <param name="Image">Docker's image id.</param>
/// <param name="Types">Its process types; null where a droidd built it that did not know them: <c>web</c> alone.</param>
internal sealed record BuiltImage(string Key, string Image, IReadOnlyList<ProcessType>? Types = null, DeployScripts? Scripts = null)
{
    /// <summary>The only type of an image that is known by nothing but itself.</summary>
    public static readonly IReadOnlyList<ProcessType> WebAlone = [new(ProcessType.Web)];
}

/// <summary>
/// A droid's folder on disk: the newest spec accepted, each deployment's outcome and log, and the droid's events. It holds what
/// Docker can't: labels never change after a container is made, and a deployment may fail before it has a container.
/// </summary>
internal sealed class DroidFolder(string root, string uid)
{
    private const int KeptDeployments = 20;
    private const long MaxEventBytes = 1 << 20;
    private readonly string folder = Path.Combine(root, uid);
    private readonly Lock eventLock = new();

    public string Events => Path.Combine(folder, "events.log");

    public string Deployment(int number) => Path.Combine(folder, "deployments", number.ToString(CultureInfo.InvariantCulture));

    public string Source(int number) => Path.Combine(Deployment(number), "source");

    /// <summary>The keys of the ssh hosts that this app's sources came from.</summary>
    public string KnownHosts => Path.Combine(folder, "known_hosts");

    public string Uploads => Path.Combine(folder, "uploads");

    public BuiltImage? ReadBuild(int number) => Read(Path.Combine(Deployment(number), "image.json"), FolderJson.Default.BuiltImage);

    public void WriteBuild(int number, BuiltImage built) =>
        Write(Path.Combine(Deployment(number), "image.json"), built, FolderJson.Default.BuiltImage);

    /// <summary>Whether a deployment's release command has done its work.</summary>
    public bool IsReleased(int number) => File.Exists(Path.Combine(Deployment(number), "released"));

    public void WriteReleased(int number)
    {
        Directory.CreateDirectory(Deployment(number));
        File.WriteAllText(Path.Combine(Deployment(number), "released"), "");
    }

    /// <summary>What was built here, the newest deployment first.</summary>
    public IEnumerable<(int Number, BuiltImage Built)> Builds() =>
        Numbers().Select(n => (n, ReadBuild(n)!)).Where(b => b.Item2 is not null);

    /// <summary>The deployments that have a folder here, newest first.</summary>
    public IEnumerable<int> Numbers()
    {
        var deployments = new DirectoryInfo(Path.Combine(folder, "deployments"));
        return !deployments.Exists ? [] : deployments.EnumerateDirectories()
            .Select(d => int.TryParse(d.Name, NumberStyles.None, CultureInfo.InvariantCulture, out var n) ? n : 0).Where(n => n > 0).OrderDescending();
    }

    public DroidSpec? ReadSpec() => Read(Path.Combine(folder, "spec.json"), AppoxyJson.Default.DroidSpec);

    public void WriteSpec(DroidSpec spec) => Write(Path.Combine(folder, "spec.json"), spec, AppoxyJson.Default.DroidSpec);

    public DeploymentStatus? ReadStatus(int number) =>
        Read(Path.Combine(Deployment(number), "status.json"), AppoxyJson.Default.DeploymentStatus);

    public void WriteStatus(DeploymentStatus status) =>
        Write(Path.Combine(Deployment(status.Number), "status.json"), status, AppoxyJson.Default.DeploymentStatus);

    /// <summary>The seconds that the last starts took, oldest first.</summary>
    public double[] ReadStarts() => Read(Path.Combine(folder, "starts.json"), FolderJson.Default.DoubleArray) ?? [];

    public void WriteStarts(IEnumerable<double> seconds) =>
        Write(Path.Combine(folder, "starts.json"), [.. seconds], FolderJson.Default.DoubleArray);

    /// <summary>
    /// Adds a line of the platform's own to the app's log: <c>2026-01-31T12:00:00.123456Z appoxy: text</c>. Where the disk is full it is
    /// lost, rather than what it tells of left half done.
    /// </summary>
    public void AddEvent(DateTimeOffset at, string text)
    {
        lock (eventLock)
        {
            IgnoreFull(() =>
            {
                Directory.CreateDirectory(folder);
                if (new FileInfo(Events) is { Exists: true, Length: > MaxEventBytes })
                    File.Move(Events, Events + ".1", overwrite: true);
                File.AppendAllText(Events, $"{at.UtcDateTime:yyyy-MM-ddTHH:mm:ss.ffffffZ} appoxy: {text.ReplaceLineEndings(" ")}\n");
            });
        }
    }

    /// <summary>Writes what may be lost where the disk is full.</summary>
    public static void IgnoreFull(Action write)
    {
        try
        {
            write();
        }
        catch (IOException e) when (DockerFault.IsDiskFull(e.Message))
        {
            // Who looks at the disk tells of it.
        }
    }

    /// <summary>Removes what is kept of old deployments beyond the newest twenty, but of those that went live last.</summary>
    /// <param name="live">How many of those.</param>
    public void Prune(int live)
    {
        var numbers = Numbers().ToList();
        if (numbers.Count <= KeptDeployments)
            return;
        var kept = numbers.Where(n => ReadStatus(n)?.State == DeploymentStates.Live).Take(live).ToHashSet();
        foreach (var old in numbers.Skip(KeptDeployments).Where(n => !kept.Contains(n)))
            Directory.Delete(Deployment(old), recursive: true);
    }

    public void RemoveSource(int number)
    {
        if (Directory.Exists(Source(number)))
            Directory.Delete(Source(number), recursive: true);
    }

    public void Delete()
    {
        if (Directory.Exists(folder))
            Directory.Delete(folder, recursive: true);
    }

    private static T? Read<T>(string path, JsonTypeInfo<T> type) where T : class =>
        File.Exists(path) ? JsonSerializer.Deserialize(File.ReadAllBytes(path), type) : null;

    private static void Write<T>(string path, T value, JsonTypeInfo<T> type)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        var next = path + ".next";
        using (var file = new FileStream(next, new FileStreamOptions
        {
            Mode = FileMode.Create, Access = FileAccess.Write, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        }))
            JsonSerializer.Serialize(file, value, type);
        File.Move(next, path, overwrite: true);
    }
}

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web)]
[JsonSerializable(typeof(BuiltImage))]
[JsonSerializable(typeof(double[]))]
internal sealed partial class FolderJson : JsonSerializerContext;
