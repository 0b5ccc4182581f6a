using System.Globalization;
using System.Net;
using Appoxy.Droidd.Builds;
using Docker.DotNet;
using Docker.DotNet.Models;

namespace Appoxy.Droidd.Images;

/// <summary>The droids' images in Docker: <c>appoxy/&lt;uid&gt;:&lt;deployment&gt;</c>.</summary>
internal sealed partial class DroidImages(DockerClient docker, ILogger<DroidImages> log)
{
    public static string Tag(string uid, int deployment) => string.Create(CultureInfo.InvariantCulture, $"appoxy/{uid}:{deployment}");

    /// <summary>Brings a prebuilt image here, unless it is already, under the droid's own tag; its id.</summary>
    /// <exception cref="BuildException">There is no such image.</exception>
    public async Task<string> PullAsync(string image, string uid, int deployment, BuildLog build, CancellationToken cancel)
    {
        try
        {
            if (await FindAsync(image, cancel) is null)
            {
                build.Say($"-----> Pulling {image}");
                var named = image.IndexOf(':', image.LastIndexOf('/') + 1) > 0 || image.Contains('@');
                await docker.Images.CreateImageAsync(new() { FromImage = named ? image : image + ":latest" }, null, new Progress<JSONMessage>(), cancel);
            }
            await docker.Images.TagImageAsync(image, new()
            {
                RepositoryName = "appoxy/" + uid, Tag = deployment.ToString(CultureInfo.InvariantCulture),
            }, cancel);
            return await FindAsync(image, cancel) ?? throw new BuildException($"Docker has no image {image}");
        }
        catch (DockerApiException e)
        {
            throw new BuildException($"Docker can't get {image}: {DockerFault.Words(e)}");
        }
    }

    private async Task<string?> FindAsync(string image, CancellationToken cancel)
    {
        try
        {
            return (await docker.Images.InspectImageAsync(image, cancel)).ID;
        }
        catch (DockerApiException e) when (e.StatusCode == HttpStatusCode.NotFound)
        {
            return null;
        }
    }

    /// <summary>Deletes the images of a droid's deployments but the one that serves and the one before it.</summary>
    public Task CollectAsync(string uid, int live, CancellationToken cancel) =>
        DeleteAsync(uid, tags => tags.Where(n => n < live).OrderDescending().Skip(1), cancel);

    public Task DeleteAllAsync(string uid, CancellationToken cancel) => DeleteAsync(uid, tags => tags, cancel);

    private async Task DeleteAsync(string uid, Func<IEnumerable<int>, IEnumerable<int>> choose, CancellationToken cancel)
    {
        var prefix = $"appoxy/{uid}:";
        var images = await docker.Images.ListImagesAsync(new()
        {
            Filters = new Dictionary<string, IDictionary<string, bool>> { ["reference"] = new Dictionary<string, bool> { [prefix + "*"] = true } },
        }, cancel);
        var numbers = images.SelectMany(i => i.RepoTags ?? []).Where(t => t.StartsWith(prefix, StringComparison.Ordinal))
            .Select(t => int.TryParse(t.AsSpan(prefix.Length), CultureInfo.InvariantCulture, out var n) ? n : -1).Where(n => n >= 0).ToList();
        foreach (var number in choose(numbers).ToList())
        {
            try
            {
                await docker.Images.DeleteImageAsync(Tag(uid, number), new() { Force = false }, cancel);
            }
            catch (DockerApiException e)
            {
                LogKept(log, Tag(uid, number), e.Message);
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Image {Tag} is kept: {Fault}")]
    private static partial void LogKept(ILogger log, string tag, string fault);
}
