using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy templates</c>: what each nginx serves by, and how that is changed.</summary>
internal static class Templates
{
    /// <summary>A test, a reload and a probe of each nginx here, then on each other proxy, and the same back.</summary>
    private static readonly TimeSpan ActivationPatience = TimeSpan.FromMinutes(6);

    public static Command Define() => new("templates", "Shows and changes the nginx templates.")
        { List(), Show(), Preview(), Apply(), History(), Rollback() };

    private static Verb List() => new Verb("list",
        "Lists each nginx, which version of its templates serves, and what is wrong with a newer one.", "appoxy templates list")
        .Does(async (call, cancel) =>
        {
            var templates = await call.Routerd.GetAsync<Page<TemplateStatus>>("v1/templates", cancel);
            if (call.Json)
                Output.Json(templates.Items);
            else
                Output.Table(templates.Value.Items, ("NGINX", t => t.Nginx), ("OF", t => t.Name), ("VERSION", t => t.Version),
                    ("SINCE", t => Output.Ago(t.At)), ("TEMPLATES", Overrides), ("FAULT", Fault));
        });

    private static string? Overrides(TemplateStatus status) => status.Templates is null ? null
        : status.Templates.Where(t => t.Value > 0).OrderBy(t => t.Key, StringComparer.Ordinal).Select(t => $"{t.Key} {t.Value}").ToList()
            is { Count: > 0 } changed ? string.Join(", ", changed) : "as shipped";

    private static string? Fault(TemplateStatus status) =>
        status.AwaySince is { } since ? $"routerd {status.Name} not heard of for {Output.Ago(since)}" : status.Error?.ToString();

    private static Verb Show()
    {
        var name = Name();
        return new Verb("show", "Prints the text of a template that holds now.",
            "appoxy templates show global.conf.sbn > global.conf.sbn") { name }.Does(async (call, cancel) =>
        {
            var template = await call.Routerd.GetAsync<NginxTemplate>(Path(call.Get(name)), cancel);
            if (call.Json)
                Output.Json(template.Json);
            else
                Console.Out.Write(template.Value.Text);
        });
    }

    private static Verb Preview()
    {
        var (name, file) = (Name(), TextFile());
        return new Verb("preview", "Tests a text and shows what it would change; changes nothing.",
            "appoxy templates preview global.conf.sbn my.conf.sbn") { name, file }.Does(async (call, cancel) =>
        {
            var preview = await call.Routerd.PostAsync<TemplateText, TemplatePreview>(
                Path(call.Get(name), "preview"), new TemplateText(await ReadAsync(call.Get(file), cancel)), cancel, ActivationPatience);
            if (call.Json)
                Output.Json(preview.Json);
            else if (preview.Value is { Error: null, Diff: "" })
                Output.Line("nothing would change");
            else
                Console.Out.Write(preview.Value.Diff);
            if (preview.Value.Error is { } error)
                throw new Failure(ExitCodes.Failed, error.ToString());
        });
    }

    private static Verb Apply()
    {
        var (name, file) = (Name(), TextFile());
        return new Verb("apply", "Tests a text and serves by it; where the test or a probe fails, all is as before.",
            "appoxy templates apply global.conf.sbn my.conf.sbn") { name, file }.Does(async (call, cancel) =>
            await ActivateAsync(call, call.Get(name), new TemplateActivation(await ReadAsync(call.Get(file), cancel)), cancel));
    }

    private static Verb History()
    {
        var name = Name();
        var diff = new Option<bool>("--diff") { Description = "Print what each version changed" };
        return new Verb("history", "Lists the versions of a template, newest first.",
            "appoxy templates history global.conf.sbn --diff") { name, diff }.Does(async (call, cancel) =>
        {
            var versions = await call.Routerd.GetAsync<Page<TemplateVersion>>(Path(call.Get(name), "versions"), cancel);
            if (call.Json)
                Output.Json(versions.Items);
            else if (call.Get(diff))
                foreach (var version in versions.Value.Items)
                {
                    Output.Line(Output.OneLine($"version {version.Number} by {version.By}, {version.At:u}"));
                    Output.Line(version.Diff);
                }
            else
                Output.Table(versions.Value.Items, ("NUMBER", v => $"{v.Number}"), ("BY", v => v.By), ("WHEN", v => Output.Ago(v.At)),
                    ("SHA", v => v.Sha?[..12] ?? "as shipped"));
        });
    }

    private static Verb Rollback()
    {
        var name = Name();
        var number = new Argument<int?>("N")
        {
            Description = "The version; 0 is the shipped text. Else the one before the newest",
            Arity = ArgumentArity.ZeroOrOne,
        };
        number.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && (!int.TryParse(token.Value, out var given) || given < 0))
                result.AddError($"'{token.Value}' is no version's number");
        });
        return new Verb("rollback", "Serves by an older version of a template.", "appoxy templates rollback global.conf.sbn",
            "appoxy templates rollback global.conf.sbn 0") { name, number }.Does(async (call, cancel) =>
        {
            var version = call.Get(number) ?? await BeforeAsync(call, call.Get(name), cancel);
            await ActivateAsync(call, call.Get(name), new TemplateActivation(Version: version), cancel);
        });
    }

    /// <summary>The number of the version before the newest; before the first one is the shipped text.</summary>
    private static async Task<int> BeforeAsync(Call call, string name, CancellationToken cancel)
    {
        var versions = await call.Routerd.GetAsync<Page<TemplateVersion>>(Path(name, "versions?limit=2"), cancel);
        return versions.Value.Items switch
        {
            [] => throw new Failure(ExitCodes.Failed, $"{name} has no versions: it is as shipped"),
            [_] => 0,
            [_, var before, ..] => before.Number,
        };
    }

    private static async Task ActivateAsync(Call call, string name, TemplateActivation activation, CancellationToken cancel)
    {
        var activated = await call.Routerd.PostAsync<TemplateActivation, ActivatedTemplate>(
            Path(name, "activate"), activation, cancel, ActivationPatience);
        if (call.Json)
        {
            Output.Json(activated.Json);
            return;
        }
        var serves = activated.Value.Nginxes.Select(n => $"the {n.Nginx} nginx serves configuration {n.Version}");
        Output.Line($"{name} is active: {string.Join(", ", serves)}");
        foreach (var proxy in activated.Value.Waiting)
            Output.Note($"proxy {proxy} has not taken it yet, as it is away or slow; it will when it can");
    }

    private static string Path(string name, string? below = null) =>
        $"v1/templates/{Uri.EscapeDataString(name)}{(below is null ? "" : "/" + below)}";

    private static Argument<string> Name() => new("NAME") { Description = "The template, as global.conf.sbn" };

    private static Argument<string?> TextFile() => new("FILE")
    {
        Description = "The file that holds the text; else, or for -, standard input",
        Arity = ArgumentArity.ZeroOrOne,
    };

    private static async Task<string> ReadAsync(string? file, CancellationToken cancel)
    {
        if (file is null && !Console.IsInputRedirected)
            throw Failure.Usage("give a FILE, or the text on standard input");
        try
        {
            return file is null or "-" ? await Console.In.ReadToEndAsync(cancel) : await File.ReadAllTextAsync(file, cancel);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Failure.Usage($"can't read {file}: {e.Message}");
        }
    }
}
