using System.Text.Json;
using System.Text.Json.Serialization;

namespace Appoxy.Droidd.Images;

/// <summary>
/// The images that droidd has brought here or made on the way to an app's: by their names, or by id what a build's steps have left
/// without one; each with when it was last of use. Other images on the same Docker are not droidd's to remove.
/// </summary>
internal sealed class BroughtImages(DroiddSettings settings, TimeProvider time)
{
    private readonly string path = Path.Combine(settings.DataDir, "images.json");
    private readonly Lock gate = new();
    private Dictionary<string, DateTimeOffset>? known;

    public IReadOnlyDictionary<string, DateTimeOffset> All
    {
        get
        {
            lock (gate)
                return new Dictionary<string, DateTimeOffset>(Known);
        }
    }

    private Dictionary<string, DateTimeOffset> Known => known ??= Read();

    public void Add(string image) => Change(k =>
    {
        k[image] = time.GetUtcNow();
        return true;
    });

    /// <summary>Takes note that images are of use now; those that somebody else has brought stay unknown.</summary>
    public void Use(IEnumerable<string> images) => Change(k =>
    {
        var mine = images.Where(k.ContainsKey).ToList();
        foreach (var image in mine)
            k[image] = time.GetUtcNow();
        return mine.Count > 0;
    });

    public void Forget(IEnumerable<string> images) => Change(k => images.Count(k.Remove) > 0);

    /// <param name="change">Whether anything was changed.</param>
    private void Change(Func<Dictionary<string, DateTimeOffset>, bool> change)
    {
        lock (gate)
        {
            if (!change(Known))
                return;
            try
            {
                Directory.CreateDirectory(settings.DataDir);
                File.WriteAllBytes(path + ".next", JsonSerializer.SerializeToUtf8Bytes(Known, BroughtJson.Default.DictionaryStringDateTimeOffset));
                File.Move(path + ".next", path, overwrite: true);
            }
            catch (IOException)
            {
                // The disk is full: the next change is written with this one, and no build fails for it.
            }
        }
    }

    private Dictionary<string, DateTimeOffset> Read()
    {
        try
        {
            return File.Exists(path) ? JsonSerializer.Deserialize(File.ReadAllBytes(path), BroughtJson.Default.DictionaryStringDateTimeOffset) ?? [] : [];
        }
        catch (JsonException)
        {
            // Images that are not known stay.
            return [];
        }
    }
}

[JsonSerializable(typeof(Dictionary<string, DateTimeOffset>))]
internal sealed partial class BroughtJson : JsonSerializerContext;
