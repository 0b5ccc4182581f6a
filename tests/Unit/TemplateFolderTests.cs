using Appoxy.Nginx;

namespace Appoxy.Tests.Unit;

public sealed class TemplateFolderTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("appoxy-templates-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private async Task<TemplateFolder> FolderAsync(params (string Name, string Text)[] templates)
    {
        foreach (var (name, text) in templates)
            await File.WriteAllTextAsync(Path.Combine(folder, name), text);
        return await TemplateFolder.ReadAsync(folder, Path.Combine(folder, "none"), default);
    }

    [Fact]
    public async Task Unknown_member_is_an_error_with_template_and_line()
    {
        var templates = await FolderAsync(("a.sbn", "one\ntwo {{ name }}\nthree {{ nome }}\n"));
        var fault = Assert.Throws<TemplateException>(() => templates.Render("a.sbn", new { name = "x" }));
        Assert.Equal(("a.sbn", 3), (fault.Error.Template, fault.Error.Line));
    }

    [Fact]
    public async Task Syntax_error_is_an_error_with_template_and_line()
    {
        var templates = await FolderAsync(("a.sbn", "one\n{{ for }}\n"));
        var fault = Assert.Throws<TemplateException>(() => templates.Render("a.sbn", new { }));
        Assert.Equal(("a.sbn", 2), (fault.Error.Template, fault.Error.Line));
    }

    [Fact]
    public async Task Each_line_of_output_knows_its_template_line_over_loops()
    {
        var templates = await FolderAsync(("a.sbn", "first\n{{~ for x in xs ~}}\nloop {{ x }}\n{{~ end ~}}\nlast\n"));
        var rendered = templates.Render("a.sbn", new { xs = new[] { 1, 2 } });
        var lines = rendered.Text.TrimEnd('\n').Split('\n');
        Assert.Equal(["first", "loop 1", "loop 2", "last"], lines);
        Assert.Equal([("a.sbn", 1), ("a.sbn", 3), ("a.sbn", 3), ("a.sbn", 5)], rendered.Origins);
    }

    [Fact]
    public async Task Endless_loop_is_ended()
    {
        var templates = await FolderAsync(("a.sbn", "{{ while true }}x{{ end }}"));
        Assert.Throws<TemplateException>(() => templates.Render("a.sbn", new { }));
    }

    [Fact]
    public async Task Each_line_of_an_included_template_knows_its_own_file_and_line()
    {
        var templates = await FolderAsync(
            ("a.sbn", "first\n{{~ include 'b.sbn' ~}}\nlast\n"), ("b.sbn", "one\ntwo\n{{~ for x in xs ~}}\n{{~ include 'c.sbn' ~}}\n{{~ end ~}}\nfour\n"), ("c.sbn", "c {{ x }}\nd\n"));
        var rendered = templates.Render("a.sbn", new { xs = new[] { 1, 2 } });
        Assert.Equal("first\none\ntwo\nc 1\nd\nc 2\nd\nfour\nlast\n", rendered.Text);
        Assert.Equal([("a.sbn", 1), ("b.sbn", 1), ("b.sbn", 2), ("c.sbn", 1), ("c.sbn", 2), ("c.sbn", 1), ("c.sbn", 2), ("b.sbn", 6), ("a.sbn", 3)],
            rendered.Origins);
    }

    [Theory]
    [InlineData("one\n{{ nome }}", "b.sbn", 2, "nome")]
    [InlineData("one\n\n{{ for }}", "b.sbn", 3, "")]
    [InlineData("{{ include 'none.sbn' }}", "b.sbn", 1, "there is no template 'none.sbn'")]
    [InlineData("{{ include 'b.sbn' }}", "b.sbn", 1, "20 deep")]
    public async Task Fault_in_an_included_template_names_that_one(string included, string template, int line, string words)
    {
        var templates = await FolderAsync(("a.sbn", "x\n{{ include 'b.sbn' }}\n"), ("b.sbn", included));
        var fault = Assert.Throws<TemplateException>(() => templates.Render("a.sbn", new { }));
        Assert.Equal((template, line), (fault.Error.Template, fault.Error.Line));
        Assert.Contains(words, fault.Error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("mkfifo \"$1\"", "no regular file")]
    [InlineData("ln -s /dev/zero \"$1\"", "no regular file")]
    [InlineData("truncate -s 10G \"$1\"", "more than 256 KiB")]
    [InlineData("ln -s nowhere \"$1\"", "no such file")]
    public async Task What_is_no_template_is_an_error_that_names_the_file_and_hinders_no_reader(string make, string words)
    {
        await FolderAsync(("a.sbn", "text"));
        var odd = Path.Combine(folder, "odd.sbn");
        using (var made = System.Diagnostics.Process.Start("/bin/sh", ["-c", make, "sh", odd]))
            await made.WaitForExitAsync();
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(10));
        var templates = await TemplateFolder.ReadAsync(folder, Path.Combine(folder, "none"), limit.Token).WaitAsync(limit.Token);
        var fault = Assert.Throws<TemplateException>(() => templates.Render("a.sbn", new { }));
        Assert.Equal("odd.sbn", fault.Error.Template);
        Assert.Contains(odd, fault.Error.Message, StringComparison.Ordinal);
        Assert.Contains(words, fault.Error.Message, StringComparison.Ordinal);
        Assert.Equal("text", templates.With("odd.sbn", null).Render("a.sbn", new { }).Text);
    }
}
