using System.Net;

namespace Appoxy.Tests.Acceptance;

public sealed class TemplateTests(Install install) : ShopTests(install)
{
    private string Overrides => Path.Combine(Install.Prefix, "etc/appoxy/templates");

    private Task<string> ShippedAsync(string name) => File.ReadAllTextAsync(Path.Combine(Install.Prefix, "usr/share/appoxy/templates", name));

    public override async Task DisposeAsync()
    {
        foreach (var file in Directory.EnumerateFiles(Overrides, "*.sbn"))
            File.Delete(file);
        await Install.EventuallyAsync(async () => !(await Install.MustAsync("templates", "list", "--json")).Contains("\"error\"", StringComparison.Ordinal),
            TimeSpan.FromSeconds(15));
        await base.DisposeAsync();
    }

    [Fact]
    public async Task Edited_template_takes_effect_without_a_failed_request()
    {
        await using var load = new Load(Install, Shop.Host, reloads: true);
        var page = await ShippedAsync("error-page.html.sbn");
        await File.WriteAllTextAsync(Path.Combine(Overrides, "error-page.html.sbn"), page.Replace("</body>", "<p>Our own words</p></body>", StringComparison.Ordinal));
        await Install.EventuallyAsync(async () => (await Install.GetAsync("nobody.localhost")).Body.Contains("Our own words", StringComparison.Ordinal),
            TimeSpan.FromSeconds(15));
        File.Delete(Path.Combine(Overrides, "error-page.html.sbn"));
        await Install.EventuallyAsync(async () => !(await Install.GetAsync("nobody.localhost")).Body.Contains("Our own words", StringComparison.Ordinal),
            TimeSpan.FromSeconds(15));
        await load.EndAsync(atLeast: 50);
    }

    [Theory]
    [InlineData("global.conf.sbn", "global")]
    [InlineData("local.conf.sbn", "local")]
    public async Task Template_with_a_scriban_error_leaves_the_old_config_and_tells_template_and_line(string template, string nginx)
    {
        var text = await ShippedAsync(template);
        await IsRefusedAsync(template, text + "{{ no_such_member }}\n", nginx, text.Split('\n').Length, "no_such_member");
    }

    [Fact]
    public async Task Template_that_does_not_parse_is_refused()
    {
        await IsRefusedAsync("global.conf.sbn", "{{ if }}\n", "global", 1, "");
    }

    [Theory]
    [InlineData("global.conf.sbn", "global")]
    [InlineData("local.conf.sbn", "local")]
    public async Task Template_that_nginx_refuses_leaves_the_old_config_and_tells_nginx_words(string template, string nginx)
    {
        var text = await ShippedAsync(template);
        await IsRefusedAsync(template, "no_such_directive on;\n" + text, nginx, 1, "unknown directive \"no_such_directive\"");
    }

    private async Task IsRefusedAsync(string template, string text, string nginx, int line, string words)
    {
        await using var load = new Load(Install, Shop.Host);
        var config = Path.Combine(Install.Prefix, "var/lib/appoxy/nginx", nginx, "current/nginx.conf");
        var before = await File.ReadAllTextAsync(config);
        await File.WriteAllTextAsync(Path.Combine(Overrides, template), text);
        await Install.EventuallyAsync(async () => (await Install.MustAsync("templates", "list")).Contains($"{template}:{line}:", StringComparison.Ordinal),
            TimeSpan.FromSeconds(15));
        Assert.Contains(words, await Install.MustAsync("templates", "list"), StringComparison.Ordinal);
        Assert.Equal(before, await File.ReadAllTextAsync(config));
        Assert.Equal(HttpStatusCode.OK, (await Install.GetAsync(Shop.Host)).Status);
        await load.EndAsync(atLeast: 10);
    }
}
