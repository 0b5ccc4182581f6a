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
        var group = v1.MapGroup("/templates").RequireAuthorization(Api.Admins);
        group.MapGet("", ListAsync).WithSummary("What each nginx serves, and what is wrong with newer templates");
        group.MapGet("/{name}", ShowAsync).WithSummary("A template's text, and whether it is the shipped one")
            .ProducesProblem(404);
        group.MapPost("/{name}/preview", PreviewAsync)
            .WithSummary("What a text would render to, its diff against what serves, and what nginx -t says; nothing is changed")
            .ProducesProblem(404);
        group.MapGet("/{name}/versions", VersionsAsync).WithSummary("The versions of a template, newest first").ProducesProblem(404);
        group.MapPost("/{name}/activate", ActivateAsync)
            .WithSummary("Tests a text or an older version, and serves by it; where the test or the probe fails, all is as before")
            .ProducesProblem(404).ProducesProblem(409).ProducesProblem(422);
        group.MapDelete("/{name}", RemoveAsync).WithSummary("Goes back to the shipped text")
            .ProducesProblem(404).ProducesProblem(409).ProducesProblem(422);
    }

    private static async Task<Ok<Page<TemplateStatus>>> ListAsync(
        GlobalConfig global, DroidServers servers, TimeProvider time, CancellationToken cancel)
    {
        var locals = await Task.WhenAll(servers.Known.Select(s => LocalAsync(servers, s.Name, time, cancel)));
        return TypedResults.Ok(new Page<TemplateStatus>([global.Status, .. locals]));
    }

    private static async Task<TemplateStatus> LocalAsync(DroidServers servers, string server, TimeProvider time, CancellationToken cancel)
    {
        try
        {
            return (await servers[server].StatusAsync(cancel)).Templates;
        }
        catch (Problem e)
        {
            return new TemplateStatus("local", null, new TemplateError("local.conf.sbn", 0, e.Message), time.GetUtcNow());
        }
    }

    private static async Task<Ok<NginxTemplate>> ShowAsync(string name, TemplateVersions versions, CancellationToken cancel)
    {
        var folder = await FolderOfAsync(name, versions, cancel);
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
        string name, TemplateText body, TemplateVersions versions, GlobalConfig global, DroidServers servers, CancellationToken cancel)
    {
        await FolderOfAsync(name, versions, cancel);
        return TypedResults.Ok(await TryAsync(name, Checked(body.Text), global, servers, cancel));
    }

    private static async Task<Ok<Page<TemplateVersion>>> VersionsAsync(
        string name, int? limit, TemplateVersions versions, CancellationToken cancel)
    {
        var folder = await FolderOfAsync(name, versions, cancel);
        if (limit is < 1 or > MaxListed)
            throw Problem.BadRequest($"limit must be from 1 to {MaxListed}.");
        var count = limit ?? 20;
        // One more, to compare the last one with.
        var rows = await versions.ListAsync(name, count + 1, cancel);
        var page = new List<TemplateVersion>();
        for (var i = 0; i < rows.Count && i < count; i++)
        {
            var (row, before) = (rows[i], i + 1 < rows.Count ? rows[i + 1] : new TemplateVersionRow());
            page.Add(new TemplateVersion(row.Number, row.Author, row.CreatedAt, row.Sha,
                await UnifiedDiff.OfAsync(Labelled(before), Labelled(row), cancel)));
        }
        return TypedResults.Ok(new Page<TemplateVersion>(page));

        (string, string) Labelled(TemplateVersionRow row) =>
            ($"{name} {(row.Text is null ? "as shipped" : $"version {row.Number}")}", row.Text ?? folder.Shipped(name)!);
    }

    private static async Task<Results<Ok<TemplateStatus>, ProblemHttpResult>> ActivateAsync(
        string name, TemplateActivation body, Caller caller, TemplateVersions versions, GlobalConfig global, DroidServers servers,
        CancellationToken cancel)
    {
        var folder = await FolderOfAsync(name, versions, cancel);
        if (body is { Text: null, Version: null } or { Text: not null, Version: not null })
            throw Problem.BadRequest("Give one of text and version.");
        var text = body.Version switch
        {
            null => Checked(body.Text),
            0 => null,
            { } number => (await versions.FindAsync(name, number, cancel)
                ?? throw Problem.NotFound($"{name} has no version {number}.")).Text,
        };
        return await UseAsync(name, text == folder.Shipped(name) ? null : text, caller, versions, global, servers, cancel);
    }

    private static async Task<Results<Ok<TemplateStatus>, ProblemHttpResult>> RemoveAsync(
        string name, Caller caller, TemplateVersions versions, GlobalConfig global, DroidServers servers, CancellationToken cancel)
    {
        await FolderOfAsync(name, versions, cancel);
        return await UseAsync(name, null, caller, versions, global, servers, cancel);
    }

    /// <summary>Test, file, reload, probe; a refusal at any step leaves file, history and nginxes as they were.</summary>
    private static async Task<Results<Ok<TemplateStatus>, ProblemHttpResult>> UseAsync(
        string name, string? text, Caller caller, TemplateVersions versions, GlobalConfig global, DroidServers servers,
        CancellationToken cancel)
    {
        if ((await TryAsync(name, text, global, servers, cancel)).Error is { } fault)
            return Refusal(fault);
        var statuses = new List<TemplateStatus>();
        try
        {
            await versions.ActivateAsync(name, text, caller.Email, async () =>
            {
                statuses = await ApplyAsync(name, global, servers);
                if (statuses.Find(s => s.Error is not null)?.Error is { } refused)
                    throw new TemplateException(refused);
            }, cancel);
        }
        catch (TemplateException refused)
        {
            return Refusal(refused.Error);
        }
        return TypedResults.Ok(statuses[0]);
    }

    /// <summary>Has each nginx that uses a template try a text; the first refusal, or else what the first one says.</summary>
    private static async Task<TemplatePreview> TryAsync(
        string name, string? text, GlobalConfig global, DroidServers servers, CancellationToken cancel)
    {
        var tries = new List<TemplatePreview>();
        if (IsOfGlobal(name))
            tries.Add(await global.TryAsync(name, text, cancel));
        if (IsOfLocal(name))
            tries.AddRange(await Task.WhenAll(servers.Known.Select(s =>
                servers[s.Name].TryTemplateAsync(new TemplateTest(name, text), cancel))));
        return tries.Find(t => t.Error is not null) ?? tries.FirstOrDefault() ?? throw Problem.Unavailable("There is no droid-server.");
    }

    private static async Task<List<TemplateStatus>> ApplyAsync(string name, GlobalConfig global, DroidServers servers)
    {
        var statuses = new List<TemplateStatus>();
        if (IsOfGlobal(name))
            statuses.Add(await global.ApplyAsync(CancellationToken.None));
        if (IsOfLocal(name))
            statuses.AddRange(await Task.WhenAll(servers.Known.Select(s => servers[s.Name].ApplyTemplatesAsync(CancellationToken.None))));
        return statuses;
    }

    // What is neither's alone, as the error page, is part of both.
    private static bool IsOfGlobal(string name) => name != "local.conf.sbn";

    private static bool IsOfLocal(string name) => name != "global.conf.sbn";

    private static async Task<TemplateFolder> FolderOfAsync(string name, TemplateVersions versions, CancellationToken cancel)
    {
        var folder = await versions.FolderAsync(cancel);
        return folder.Shipped(name) is not null ? folder
            : throw Problem.NotFound($"There is no such template; there are {string.Join(", ", folder.Names)}.");
    }

    private static string Checked(string? text) => text is null ? throw Problem.BadRequest("text is missing.")
        : TemplateVersions.Fault(text) is { } fault ? throw Problem.BadRequest(fault)
        : text;

    private static ProblemHttpResult Refusal(TemplateError error) => TypedResults.Problem(error.ToString(), statusCode: 422,
        extensions: new Dictionary<string, object?> { ["template"] = error.Template, ["line"] = error.Line, ["message"] = error.Message });
}
