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
    /// <summary>The longest template, in bytes.</summary>
    public const int MaxBytes = 256 << 10;

    private const string Extension = ".sbn";
    private const int MaxIncludes = 20;

    // Below 1 MiB, at which Scriban would cut the output off without a word.
    private const int MaxOutput = 1_000_000;
    private static readonly TimeSpan RenderTimeout = TimeSpan.FromSeconds(5);
    private readonly SortedDictionary<string, string> shipped;
    private readonly SortedDictionary<string, string> overrides;
    private readonly SortedDictionary<string, string> faults;
    private readonly SortedDictionary<string, string> templates;

    private TemplateFolder(
        SortedDictionary<string, string> shipped, SortedDictionary<string, string> overrides, SortedDictionary<string, string> faults)
    {
        (this.shipped, this.overrides, this.faults) = (shipped, overrides, faults);
        templates = new SortedDictionary<string, string>(shipped, StringComparer.Ordinal);
        foreach (var (name, text) in overrides)
            templates[name] = text;
        using var sha = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var (name, text) in templates.Concat(faults))
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

    /// <summary>Whether something lies there under this name that is no template, as a FIFO or a huge file.</summary>
    public bool IsFaulty(string name) => faults.ContainsKey(name);

    /// <summary>The same templates with another text for one; null for the shipped one.</summary>
    public TemplateFolder With(string name, string? text)
    {
        var changed = new SortedDictionary<string, string>(overrides, StringComparer.Ordinal);
        var faulty = new SortedDictionary<string, string>(faults, StringComparer.Ordinal);
        changed.Remove(name);
        faulty.Remove(name);
        if (text is not null)
            changed[name] = text;
        return new TemplateFolder(shipped, changed, faulty);
    }

    /// <summary>Reads <paramref name="shipped"/> and, where it exists, <paramref name="overrides"/>.</summary>
    /// <exception cref="IOException">A folder can't be read; a file that can't be read shows when a template is rendered.</exception>
    public static async Task<TemplateFolder> ReadAsync(string shipped, string overrides, CancellationToken cancel)
    {
        var faults = new SortedDictionary<string, string>(StringComparer.Ordinal);
        return new(await ReadAsync(shipped, faults, cancel), await ReadAsync(overrides, faults, cancel), faults);
    }

    private static async Task<SortedDictionary<string, string>> ReadAsync(
        string folder, SortedDictionary<string, string> faults, CancellationToken cancel)
    {
        var templates = new SortedDictionary<string, string>(StringComparer.Ordinal);
        if (!Directory.Exists(folder))
            return templates;
        // A leading dot is an editor's, for its own files.
        foreach (var name in Directory.EnumerateFiles(folder, "*" + Extension).Select(f => Path.GetFileName(f)).Where(n => n[0] != '.'))
        {
            try
            {
                templates[name] = await ReadFileAsync(Path.Combine(folder, name), cancel);
            }
            catch (FileNotFoundException) when (new FileInfo(Path.Combine(folder, name)).LinkTarget is null)
            {
                // Removed meanwhile.
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                faults[name] = $"{Path.Combine(folder, name)} can't be read: {e.Message}";
            }
        }
        return templates;
    }

    private static async Task<string> ReadFileAsync(string path, CancellationToken cancel)
    {
        using var file = Posix.OpenRegular(path) ?? throw new IOException("it is no regular file");
        var text = new byte[MaxBytes + 1];
        var length = 0;
        while (length < text.Length && await RandomAccess.ReadAsync(file, text.AsMemory(length), length, cancel) is > 0 and var read)
            length += read;
        return length > MaxBytes ? throw new IOException($"it has more than {MaxBytes >> 10} KiB")
            : Encoding.UTF8.GetString(text.AsSpan(0, length)).TrimStart('\uFEFF');
    }

    /// <summary>Renders one template. Unknown variables and members are errors; loops, output and time are bounded.</summary>
    /// <exception cref="TemplateException">The template is missing, does not parse, or fails.</exception>
    public RenderedTemplate Render(string name, object model)
    {
        foreach (var (file, fault) in faults)
            throw new TemplateException(new TemplateError(file, 0, fault));
        var template = Parse(name);
        var members = new ScriptObject();
        members.Import(model, renamer: StandardMemberRenamer.Rename);
        var depth = 0;
        // In place of Scriban's own, which gives back a text: then each of its lines would come from the one that includes.
        members.Import("include", (TemplateContext context, SourceSpan caller, string included) =>
        {
            if (++depth > MaxIncludes)
                throw new ScriptRuntimeException(caller, $"templates include each other more than {MaxIncludes} deep");
            try
            {
                context.Evaluate(Parse(included, caller).Page!);
            }
            catch (TemplateException fault)
            {
                throw new IncludeException(caller, fault.Error);
            }
            finally
            {
                depth--;
            }
        });
        using var timeout = new CancellationTokenSource(RenderTimeout);
        var context = new TemplateContext
        {
            CancellationToken = timeout.Token,
            StrictVariables = true,
            // Else what is included is written line by line, each as if it were its statement's first.
            AutoIndent = false,
            EnableRelaxedMemberAccess = false,
            EnableRelaxedTargetAccess = false,
            LoopLimit = 100_000,
            RegexTimeOut = TimeSpan.FromSeconds(1),
            MemberRenamer = StandardMemberRenamer.Rename,
        };
        var output = new TracedOutput(context, name);
        context.PushOutput(output);
        context.PushGlobal(members);
        try
        {
            template.Render(context);
        }
        catch (IncludeException fault)
        {
            throw new TemplateException(fault.Error);
        }
        catch (ScriptRuntimeException fault)
        {
            throw new TemplateException(new TemplateError(fault.Span.FileName ?? name, fault.Span.Start.Line + 1, fault.OriginalMessage));
        }
        return output.Result();
    }

    /// <param name="name">The template.</param>
    /// <param name="caller">Where it is included; null for what is rendered itself.</param>
    private Template Parse(string name, SourceSpan? caller = null)
    {
        if (!templates.TryGetValue(name, out var source))
            throw new TemplateException(caller is { } at
                ? new TemplateError(at.FileName, at.Start.Line + 1, $"there is no template '{name}' to include")
                : new TemplateError(name, 0, "there is no such template"));
        var template = Template.Parse(source, name);
        if (!template.HasErrors)
            return template;
        var fault = template.Messages.First(m => m.Type == ParserMessageType.Error);
        throw new TemplateException(new TemplateError(fault.Span.FileName ?? name, fault.Span.Start.Line + 1, fault.Message));
    }

    /// <summary>Carries a fault of an included template through Scriban, which wraps what is not its own.</summary>
    private sealed class IncludeException(SourceSpan span, TemplateError error) : ScriptRuntimeException(span, error.Message)
    {
        public TemplateError Error { get; } = error;
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
}
