using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Appoxy.Droidd.Builds;

namespace Appoxy.Droidd.Droids;

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

    public DroidSpec? ReadSpec() => Read(Path.Combine(folder, "spec.json"), AppoxyJson.Default.DroidSpec);

    public void WriteSpec(DroidSpec spec) => Write(Path.Combine(folder, "spec.json"), spec, AppoxyJson.Default.DroidSpec);

    public DeploymentStatus? ReadStatus(int number) =>
        Read(Path.Combine(Deployment(number), "status.json"), AppoxyJson.Default.DeploymentStatus);

    public void WriteStatus(DeploymentStatus status) =>
        Write(Path.Combine(Deployment(status.Number), "status.json"), status, AppoxyJson.Default.DeploymentStatus);

    /// <summary>Adds a line of the platform's own to the app's log: <c>2026-01-31T12:00:00.123456Z appoxy: text</c>.</summary>
    public void AddEvent(DateTimeOffset at, string text)
    {
        lock (eventLock)
        {
            Directory.CreateDirectory(folder);
            if (new FileInfo(Events) is { Exists: true, Length: > MaxEventBytes })
                File.Move(Events, Events + ".1", overwrite: true);
            File.AppendAllText(Events, $"{at.UtcDateTime:yyyy-MM-ddTHH:mm:ss.ffffffZ} appoxy: {text.ReplaceLineEndings(" ")}\n");
        }
    }

    /// <summary>Removes what is kept of old deployments beyond the newest twenty.</summary>
    public void Prune()
    {
        var deployments = new DirectoryInfo(Path.Combine(folder, "deployments"));
        if (!deployments.Exists)
            return;
        foreach (var old in deployments.EnumerateDirectories().Where(d => int.TryParse(d.Name, out _))
                     .OrderByDescending(d => int.Parse(d.Name, CultureInfo.InvariantCulture)).Skip(KeptDeployments))
            old.Delete(recursive: true);
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
