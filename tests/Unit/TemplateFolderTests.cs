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
}
