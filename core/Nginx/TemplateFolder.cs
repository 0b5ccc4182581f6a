using System.Security.Cryptography;
using System.Text;
using Scriban;
using Scriban.Parsing;
using Scriban.Runtime;
using Scriban.Syntax;

namespace Appoxy.Nginx;

/// <summary>A template can't be rendered, or nginx refuses what it rendered to.</summary>
public sealed class TemplateException(TemplateError error) : Exception(error.ToString())
{
    public TemplateError Error { get; } = error;
}

/// <summary>The text that a template rendered to, and for each of its lines where in which template it came from.</summary>
/// <param name="Text">The text.</param>
/// <param name="Origins">Template and line (from 1) of each line of <paramref name="Text"/>.</param>
public sealed record RenderedTemplate(string Text, IReadOnlyList<(string Template, int Line)> Origins);

/// <summary>The templates as they lie on disk at one moment: shipped ones, with the admin's overrides in their place.</summary>
public sealed class TemplateFolder
{
    private const string Extension = ".sbn";

    // Below 1 MiB, at which Scriban would cut the output off without a word.
    private const int MaxOutput = 1_000_000;
    private static readonly TimeSpan RenderTimeout = TimeSpan.FromSeconds(5);
    private readonly SortedDictionary<string, string> shipped;
    private readonly SortedDictionary<string, string> overrides;
    private readonly SortedDictionary<string, string> templates;

    private TemplateFolder(SortedDictionary<string, string> shipped, SortedDictionary<string, string> overrides)
    {
        (this.shipped, this.overrides) = (shipped, overrides);
        templates = new SortedDictionary<string, string>(shipped, StringComparer.Ordinal);
        foreach (var (name, text) in overrides)
            templates[name] = text;
        using var sha = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var (name, text) in templates)
            sha.AppendData(Encoding.UTF8.GetBytes($"{name}\0{text}\0"));
        Hash = Convert.ToHexStringLower(sha.GetHashAndReset())[..16];
    }

    /// <summary>Same content, same hash.</summary>
    public string Hash { get; }

    /// <summary>The names of the shipped templates, which alone can be previewed and activated.</summary>
    public IReadOnlyCollection<string> Names => shipped.Keys;

    /// <summary>The text of a template as shipped; null where there is none.</summary>
    public string? Shipped(string name) => shipped.GetValueOrDefault(name);

    /// <summary>The admin's text of a template; null where the shipped one holds.</summary>
    public string? Override(string name) => overrides.GetValueOrDefault(name);

    /// <summary>The same templates with another text for one; null for the shipped one.</summary>
    public TemplateFolder With(string name, string? text)
    {
        var changed = new SortedDictionary<string, string>(overrides, StringComparer.Ordinal);
        changed.Remove(name);
        if (text is not null)
            changed[name] = text;
        return new TemplateFolder(shipped, changed);
    }

    /// <summary>Reads <paramref name="shipped"/> and, where it exists, <paramref name="overrides"/>.</summary>
    /// <exception cref="IOException">A file can't be read.</exception>
    public static async Task<TemplateFolder> ReadAsync(string shipped, string overrides, CancellationToken cancel) =>
        new(await ReadAsync(shipped, cancel), await ReadAsync(overrides, cancel));

    private static async Task<SortedDictionary<string, string>> ReadAsync(string folder, CancellationToken cancel)
    {
        var templates = new SortedDictionary<string, string>(StringComparer.Ordinal);
        if (!Directory.Exists(folder))
            return templates;
        foreach (var file in Directory.EnumerateFiles(folder, "*" + Extension))
            templates[Path.GetFileName(file)] = await File.ReadAllTextAsync(file, cancel);
        return templates;
    }

    /// <summary>Renders one template. Unknown variables and members are errors; loops, output and time are bounded.</summary>
    /// <exception cref="TemplateException">The template is missing, does not parse, or fails.</exception>
    public RenderedTemplate Render(string name, object model)
    {
        if (!templates.TryGetValue(name, out var source))
            throw new TemplateException(new TemplateError(name, 0, "there is no such template"));
        var template = Template.Parse(source, name);
        if (template.HasErrors)
        {
            var fault = template.Messages.First(m => m.Type == ParserMessageType.Error);
            throw new TemplateException(new TemplateError(fault.Span.FileName ?? name, fault.Span.Start.Line + 1, fault.Message));
        }
        var members = new ScriptObject();
        members.Import(model, renamer: StandardMemberRenamer.Rename);
        using var timeout = new CancellationTokenSource(RenderTimeout);
        var context = new TemplateContext
        {
            CancellationToken = timeout.Token,
            StrictVariables = true,
            EnableRelaxedMemberAccess = false,
            EnableRelaxedTargetAccess = false,
            LoopLimit = 100_000,
            RegexTimeOut = TimeSpan.FromSeconds(1),
            MemberRenamer = StandardMemberRenamer.Rename,
            TemplateLoader = new Loader(templates),
        };
        var output = new TracedOutput(context, name);
        context.PushOutput(output);
        context.PushGlobal(members);
        try
        {
            template.Render(context);
        }
        catch (ScriptRuntimeException fault)
        {
            throw new TemplateException(new TemplateError(fault.Span.FileName ?? name, fault.Span.Start.Line + 1, fault.OriginalMessage));
        }
        return output.Result();
    }

    /// <summary>Remembers which template line each line of output came from, so that nginx's complaint can name it.</summary>
    private sealed class TracedOutput(TemplateContext context, string name) : IScriptOutput
    {
        private readonly StringBuilder text = new();
        private readonly List<(string, int)> origins = [];
        private bool atLineStart = true;

        public void Write(string written, int offset, int count)
        {
            var node = context.CurrentNode;
            if (text.Length + count > MaxOutput)
                throw new ScriptRuntimeException(node?.Span ?? default, $"renders to more than {MaxOutput / 1_000_000} MB");
            var literal = node is ScriptRawStatement;
            var (file, line) = (node?.Span.FileName ?? name, (node?.Span.Start.Line ?? 0) + 1);
            foreach (var c in written.AsSpan(offset, count))
            {
                if (atLineStart)
                {
                    origins.Add((file, line));
                    atLineStart = false;
                }
                text.Append(c);
                if (c != '\n')
                    continue;
                atLineStart = true;
                if (literal)
                    line++;
            }
        }

        public ValueTask WriteAsync(string written, int offset, int count, CancellationToken cancellationToken)
        {
            Write(written, offset, count);
            return ValueTask.CompletedTask;
        }

        public RenderedTemplate Result() => new(text.ToString(), origins);
    }

    private sealed class Loader(SortedDictionary<string, string> templates) : ITemplateLoader
    {
        public string GetPath(TemplateContext context, SourceSpan callerSpan, string templateName) => templateName;

        public string? Load(TemplateContext context, SourceSpan callerSpan, string templatePath) =>
            templates.GetValueOrDefault(templatePath)
            ?? throw new ScriptRuntimeException(callerSpan, $"there is no template '{templatePath}' to include");

        public ValueTask<string?> LoadAsync(TemplateContext context, SourceSpan callerSpan, string templatePath) =>
            ValueTask.FromResult(Load(context, callerSpan, templatePath));
    }
}
