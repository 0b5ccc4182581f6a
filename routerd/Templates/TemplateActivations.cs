using Appoxy.Nginx;

namespace Appoxy.Routerd.Templates;

/// <summary>Brings a text to every proxy, or to none.</summary>
internal sealed class TemplateActivations(TemplateVersions versions, TemplateSync sync, TemplatedNginxes nginxes, Proxies proxies)
{
    private const int MaxAuthor = 300;

    /// <summary>
    /// Test, file, reload and probe here; then the same at each other proxy, by the version that they follow. Where one refuses it,
    /// what was before becomes the newest version, and all go back to it. A proxy that is away does not hinder it.
    /// </summary>
    /// <param name="name">The template.</param>
    /// <param name="text">Its text; null removes the override.</param>
    /// <param name="by">The admin's email.</param>
    /// <param name="cancel">Ends the wait before anything is changed.</param>
    /// <returns>What is served by now; or who refused it, and all is as before.</returns>
    /// <exception cref="Problem">Another activation runs, or a droid-server is away.</exception>
    public async Task<(ActivatedTemplate? Activated, TemplateRefusal? Refusal)> ActivateAsync(
        string name, string? text, string by, CancellationToken cancel)
    {
        if ((await nginxes.TryAsync(name, text, cancel)).Error is { } fault)
            return (null, new TemplateRefusal(fault));
        await using var held = await versions.LockAsync(cancel);
        TemplateVersionId version;
        List<TemplateStatus> statuses;
        // Not what lies here: that may be an edit which no machine serves.
        var before = (await versions.ListAsync(name, 1, cancel)).FirstOrDefault()?.Text;
        try
        {
            (version, statuses) = await sync.PutAsync(name, text, by, cancel);
        }
        catch (TemplateException refused)
        {
            return (null, new TemplateRefusal(refused.Error));
        }
        // What has begun ends, whether or not the caller still waits.
        var (refusal, waiting) = await proxies.AwaitAsync(name, version.Number, CancellationToken.None);
        if (refusal is null)
            return (new ActivatedTemplate(name, version.Number, statuses, waiting), null);
        var author = $"{by}, rolled back: proxy {refusal.Proxy} refused version {version.Number}: {refusal.Error}";
        var undone = await versions.AddAsync(name, before, author[..Math.Min(author.Length, MaxAuthor)], CancellationToken.None);
        await sync.FollowAsync(CancellationToken.None);
        // Whatever they say to it, it is what they served before.
        await proxies.AwaitAsync(name, undone.Number, CancellationToken.None);
        return (null, refusal);
    }
}
