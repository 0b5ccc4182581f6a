using Appoxy.Nginx;
using Appoxy.Routerd.Servers;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;

namespace Appoxy.Routerd.Templates;

/// <summary><c>/v1/templates</c>, for admins: what became of them, and how they are changed without a risk to what serves.</summary>
internal static class TemplateEndpoints
{
    private const int MaxListed = 100;

    public static void MapTemplates(this RouteGroupBuilder v1)
    {
        var group = v1.MapGroup("/templates").RequireScope(Scope.Admin);
        group.MapGet("", ListAsync).WithSummary("What each nginx serves, and what is wrong with newer templates");
        group.MapGet("/{name}", ShowAsync).WithSummary("A template's text, and whether it is the shipped one")
            .ProducesProblem(404);
        group.MapPost("/{name}/preview", PreviewAsync)
            .WithSummary("What a text would render to, its diff against what serves, and what nginx -t says; nothing is changed")
            .ProducesProblem(404);
        group.MapGet("/{name}/versions", VersionsAsync).WithSummary("The versions of a template, newest first").ProducesProblem(404);
        group.MapPost("/{name}/activate", ActivateAsync)
            .WithSummary("Tests a text or an older version, and serves by it on every proxy; where one refuses it, all is as before")
            .ProducesProblem(404).ProducesProblem(409).ProducesProblem(422);
        group.MapDelete("/{name}", RemoveAsync).WithSummary("Goes back to the shipped text")
            .ProducesProblem(404).ProducesProblem(409).ProducesProblem(422);
    }

    private static async Task<Ok<Page<TemplateStatus>>> ListAsync(
        Proxies proxies, DroidServers servers, TimeProvider time, CancellationToken cancel)
    {
        var locals = Task.WhenAll(servers.Known.Select(s => LocalAsync(servers, s.Name, time, cancel)));
        return TypedResults.Ok(new Page<TemplateStatus>([.. await proxies.ListAsync(cancel), .. await locals]));
    }

    private static async Task<TemplateStatus> LocalAsync(DroidServers servers, string server, TimeProvider time, CancellationToken cancel)
    {
        try
        {
            return (await servers[server].StatusAsync(cancel)).Templates with { Name = server };
        }
        catch (Problem e)
        {
            return new TemplateStatus("local", null, new TemplateError("local.conf.sbn", 0, e.Message), time.GetUtcNow()) { Name = server };
        }
    }

    private static async Task<Ok<NginxTemplate>> ShowAsync(
        string name, TemplateSync sync, TemplateVersions versions, CancellationToken cancel)
    {
        var folder = await FolderOfAsync(name, sync, cancel);
        var text = folder.Override(name);
        var newest = await versions.ListAsync(name, 1, cancel);
        return TypedResults.Ok(new NginxTemplate
        {
            Name = name,
            Text = text ?? folder.Shipped(name)!,
            Overridden = text is not null,
            Version = text is null ? 0 : newest is [var version] && version.Text == text ? version.Number : null,
        });
    }

    private static async Task<Ok<TemplatePreview>> PreviewAsync(
        string name, TemplateText body, TemplateSync sync, TemplatedNginxes nginxes, CancellationToken cancel)
    {
        await FolderOfAsync(name, sync, cancel);
        return TypedResults.Ok(await nginxes.TryAsync(name, Checked(body.Text), cancel));
    }

    private static async Task<Ok<Page<TemplateVersion>>> VersionsAsync(
        string name, [AsParameters] Paging paging, TemplateSync sync, TemplateVersions versions, CancellationToken cancel)
    {
        var folder = await FolderOfAsync(name, sync, cancel);
        if (paging.Limit is < 1 or > MaxListed)
            throw Problem.BadRequest($"limit must be from 1 to {MaxListed}.");
        var count = paging.Limit ?? 20;
        // One more, to compare the last one with.
        var rows = await versions.ListAsync(name, count + 1, cancel, paging.Number ?? long.MaxValue);
        var page = new List<TemplateVersion>();
        for (var i = 0; i < rows.Count && i < count; i++)
        {
            var (row, before) = (rows[i], i + 1 < rows.Count ? rows[i + 1] : new TemplateVersionRow());
            page.Add(new TemplateVersion(row.Number, row.Author, row.CreatedAt, row.Sha,
                await UnifiedDiff.OfAsync(Labelled(before), Labelled(row), cancel)));
        }
        return TypedResults.Ok(new Page<TemplateVersion>(page, rows.Count > count ? $"{page[^1].Number}" : null));

        (string, string) Labelled(TemplateVersionRow row) =>
            ($"{name} {(row.Text is null ? "as shipped" : $"version {row.Number}")}", row.Text ?? folder.Shipped(name)!);
    }

    private static async Task<Results<Ok<ActivatedTemplate>, ProblemHttpResult>> ActivateAsync(
        string name, TemplateActivation body, Caller caller, TemplateSync sync, TemplateVersions versions, TemplateActivations activations,
        CancellationToken cancel)
    {
        var folder = await FolderOfAsync(name, sync, cancel);
        if (body is { Text: null, Version: null } or { Text: not null, Version: not null })
            throw Problem.BadRequest("Give one of text and version.");
        var text = body.Version switch
        {
            null => Checked(body.Text),
            0 => null,
            { } number => (await versions.FindAsync(name, number, cancel)
                ?? throw Problem.NotFound($"{name} has no version {number}.")).Text,
        };
        return Show(await activations.ActivateAsync(name, text == folder.Shipped(name) ? null : text, caller.Email, cancel));
    }

    private static async Task<Results<Ok<ActivatedTemplate>, ProblemHttpResult>> RemoveAsync(
        string name, Caller caller, TemplateSync sync, TemplateActivations activations, CancellationToken cancel)
    {
        await FolderOfAsync(name, sync, cancel);
        return Show(await activations.ActivateAsync(name, null, caller.Email, cancel));
    }

    private static async Task<TemplateFolder> FolderOfAsync(string name, TemplateSync sync, CancellationToken cancel)
    {
        var folder = await sync.FolderAsync(cancel);
        return folder.Shipped(name) is not null ? folder
            : throw Problem.NotFound($"There is no such template; there are {string.Join(", ", folder.Names)}.");
    }

    private static string Checked(string? text) => text is null ? throw Problem.BadRequest("text is missing.")
        : TemplateVersions.Fault(text) is { } fault ? throw Problem.BadRequest(fault)
        : text;

    private static Results<Ok<ActivatedTemplate>, ProblemHttpResult> Show((ActivatedTemplate? Activated, TemplateRefusal? Refusal) outcome)
    {
        if (outcome.Refusal is not { } refusal)
            return TypedResults.Ok(outcome.Activated);
        var extensions = new Dictionary<string, object?>
        {
            ["template"] = refusal.Error.Template, ["line"] = refusal.Error.Line, ["message"] = refusal.Error.Message,
        };
        if (refusal.Proxy is not null)
            extensions["proxy"] = refusal.Proxy;
        return TypedResults.Problem(refusal.ToString(), statusCode: 422, extensions: extensions);
    }
}
