using Appoxy.Routerd.Servers;

namespace Appoxy.Routerd.Templates;

/// <summary>The nginxes whose templates this routerd tests and applies: its own global one, and the droid-servers' local ones.</summary>
internal sealed class TemplatedNginxes(GlobalConfig global, DroidServers servers)
{
    /// <summary>Has each nginx that uses a template try a text; the first refusal, or else what the first one says.</summary>
    /// <exception cref="Problem">A droid-server is away.</exception>
    public async Task<TemplatePreview> TryAsync(string name, string? text, CancellationToken cancel)
    {
        var tries = new List<TemplatePreview>();
        if (IsOfGlobal(name))
            tries.Add(await global.TryAsync(name, text, cancel));
        if (IsOfLocal(name))
            tries.AddRange(await Task.WhenAll(servers.Known.Select(s =>
                servers[s.Name].TryTemplateAsync(new TemplateTest(name, text), cancel))));
        return tries.Find(t => t.Error is not null) ?? tries.FirstOrDefault() ?? throw Problem.Unavailable("There is no droid-server.");
    }

    /// <summary>Brings each nginx that uses a template to what lies in its folder now; what became of each.</summary>
    /// <exception cref="Problem">A droid-server is away.</exception>
    public async Task<List<TemplateStatus>> ApplyAsync(string name, CancellationToken cancel)
    {
        var statuses = new List<TemplateStatus>();
        if (IsOfGlobal(name))
            statuses.Add(await global.ApplyAsync(cancel));
        if (IsOfLocal(name))
            statuses.AddRange(await Task.WhenAll(servers.Known.Select(s => servers[s.Name].ApplyTemplatesAsync(cancel))));
        return statuses;
    }

    /// <summary>As <see cref="ApplyAsync"/>, but a droid-server that is away takes the template later.</summary>
    /// <returns>The first refusal; null if there is none.</returns>
    public async Task<TemplateError?> RefusalAsync(string name, CancellationToken cancel)
    {
        var refusals = new List<TemplateError?>();
        if (IsOfGlobal(name))
            refusals.Add((await global.ApplyAsync(cancel)).Error);
        if (IsOfLocal(name))
            refusals.AddRange(await Task.WhenAll(servers.Known.Select(s =>
                OfReachableAsync(async () => (await servers[s.Name].ApplyTemplatesAsync(cancel)).Error))));
        return refusals.Find(r => r is not null);
    }

    /// <summary>What the droid-servers that answer say against a text; null if nothing.</summary>
    public async Task<TemplateError?> LocalRefusalAsync(string name, string? text, CancellationToken cancel) =>
        !IsOfLocal(name) ? null : (await Task.WhenAll(servers.Known.Select(s =>
            OfReachableAsync(async () => (await servers[s.Name].TryTemplateAsync(new TemplateTest(name, text), cancel)).Error))))
        .FirstOrDefault(r => r is not null);

    private static async Task<TemplateError?> OfReachableAsync(Func<Task<TemplateError?>> ask)
    {
        try
        {
            return await ask();
        }
        catch (Problem)
        {
            return null;
        }
    }

    // What is neither's alone, as the error page, is part of both.
    private static bool IsOfGlobal(string name) => name != "local.conf.sbn";

    private static bool IsOfLocal(string name) => name is not ("global.conf.sbn" or "console.conf.sbn");
}
