using System.Net;
using System.Net.Http.Json;
using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

[Collection(FirstLane.Name)]
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
        // That the files are gone is a version as well: noted now, rather than during the next test.
        foreach (var template in new[] { "global.conf.sbn", "local.conf.sbn", "error-page.html.sbn", "console.conf.sbn", "log-format.conf.sbn" })
            await Install.EventuallyAsync(async () => (await HistoryAsync(template)).FirstOrDefault()?.Sha is null, TimeSpan.FromSeconds(15));
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

    [Theory]
    [InlineData("global.conf.sbn")]
    [InlineData("local.conf.sbn")]
    public async Task Template_that_serves_nothing_or_moves_the_pid_file_is_refused(string template)
    {
        await using var load = new Load(Install, Shop.Host);
        foreach (var text in new[] { "events {}\nhttp {}\n", "pid /tmp/elsewhere.pid;\n" + await ShippedAsync(template) })
        {
            await File.WriteAllTextAsync(Path.Combine(Overrides, template), text);
            await Install.EventuallyAsync(async () => (await Install.MustAsync("templates", "list")).Contains(template + ":", StringComparison.Ordinal),
                TimeSpan.FromSeconds(60));
            File.Delete(Path.Combine(Overrides, template));
            await Install.EventuallyAsync(async () => !(await Install.MustAsync("templates", "list", "--json")).Contains("\"error\"", StringComparison.Ordinal),
                TimeSpan.FromSeconds(15));
        }
        await load.EndAsync(atLeast: 10);
        Assert.False(File.Exists("/tmp/elsewhere.pid"));
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

    [Theory]
    [InlineData("global.conf.sbn", "keepalive_requests 9999;", "nginx.conf")]
    [InlineData("local.conf.sbn", "keepalive_requests 9999;", "nginx.conf")]
    [InlineData("error-page.html.sbn", "<!-- ours -->", "pages/404.html")]
    public async Task Preview_tells_what_would_change_and_changes_nothing(string template, string added, string file)
    {
        var before = await EverythingAsync();
        var shipped = await ShippedAsync(template);
        Assert.Equal("nothing would change\n", await Install.MustAsync("templates", "preview", template, await FileOfAsync(shipped)));
        var text = await FileOfAsync(added is ['<', ..] ? shipped + added : shipped.Replace("  server {\n", $"  server {{\n{added}\n", StringComparison.Ordinal));
        var diff = await Install.MustAsync("templates", "preview", template, text);
        Assert.Contains($"--- serving/{file}", diff, StringComparison.Ordinal);
        Assert.Contains($"\n+{added}", diff, StringComparison.Ordinal);
        var preview = JsonDocument.Parse(await Install.MustAsync("templates", "preview", template, text, "--json")).RootElement;
        Assert.Contains(added, preview.GetProperty("rendered").GetString(), StringComparison.Ordinal);
        Assert.Equal(before, await EverythingAsync());
    }

    [Theory]
    [InlineData("global.conf.sbn", "no_such_directive on;", "unknown directive \"no_such_directive\"")]
    [InlineData("local.conf.sbn", "no_such_directive on;", "unknown directive \"no_such_directive\"")]
    [InlineData("global.conf.sbn", "{{ no_such_member }}", "no_such_member")]
    [InlineData("error-page.html.sbn", "{{ no_such_member }}", "no_such_member")]
    [InlineData("local.conf.sbn", "{{ for i in 1..90000 }}a line that is long enough{{ end }}", "more than 1 MB")]
    public async Task Faulty_template_is_refused_before_anything_is_changed(string template, string fault, string words)
    {
        await using var load = new Load(Install, Shop.Host);
        var before = await EverythingAsync();
        var file = await FileOfAsync($"{fault}\n{await ShippedAsync(template)}");
        foreach (var verb in new[] { "preview", "apply" })
        {
            var ran = await Install.AppoxyAsync("templates", verb, template, file);
            Assert.True(ran.ExitCode == 1, ran.ToString());
            var line = Assert.Single(ran.Error.Trim().Split('\n'));
            Assert.StartsWith($"appoxy: {template}:1: ", line, StringComparison.Ordinal);
            Assert.Contains(words, line, StringComparison.Ordinal);
        }
        var (status, problem) = await ActivateAsync(template, new { text = await File.ReadAllTextAsync(file) });
        Assert.Equal(422, status);
        Assert.Equal((template, 1), (problem.GetProperty("template").GetString(), problem.GetProperty("line").GetInt32()));
        Assert.Contains(words, problem.GetProperty("message").GetString(), StringComparison.Ordinal);
        Assert.Equal(before, await EverythingAsync());
        await load.EndAsync(atLeast: 10);
    }

    [Theory]
    [InlineData("global.conf.sbn")]
    [InlineData("local.conf.sbn")]
    [InlineData("error-page.html.sbn")]
    public async Task Applied_template_serves_and_can_be_rolled_back_without_a_failed_request(string template)
    {
        await using var load = new Load(Install, Shop.Host, reloads: true);
        var (nginx, first) = (template.Split('.')[0] == "local" ? "local" : "global", await NewestAsync(template));
        foreach (var mark in new[] { "the first edit", "the second edit" })
        {
            var text = $"{await ShippedAsync(template)}{(template.Contains("html", StringComparison.Ordinal) ? $"<!-- {mark} -->" : $"# {mark}")}\n";
            await Install.MustAsync("templates", "apply", template, await FileOfAsync(text));
            Assert.Equal(text, await Install.MustAsync("templates", "show", template));
            Assert.Equal(text, await File.ReadAllTextAsync(Path.Combine(Overrides, template)));
            Assert.Contains(mark, await ServingAsync(nginx), StringComparison.Ordinal);
        }
        var history = await HistoryAsync(template);
        Assert.Equal([first + 2, first + 1], history.Take(2).Select(v => v.Number));
        Assert.All(history.Take(2), v => Assert.Equal(Install.Installed("admin_email"), v.By));
        Assert.Contains("the second edit", history[0].Diff, StringComparison.Ordinal);
        Assert.Contains($"+++ {template} version {first + 2}", history[0].Diff, StringComparison.Ordinal);

        await Install.MustAsync("templates", "rollback", template);
        Assert.Contains("the first edit", await ServingAsync(nginx), StringComparison.Ordinal);
        Assert.Equal(history[1].Sha, (await HistoryAsync(template))[0].Sha);

        using var api = Install.Api();
        using var removed = await api.DeleteAsync($"v1/templates/{template}");
        Assert.Equal(HttpStatusCode.OK, removed.StatusCode);
        Assert.False(File.Exists(Path.Combine(Overrides, template)));
        Assert.Equal(await ShippedAsync(template), await Install.MustAsync("templates", "show", template));
        Assert.DoesNotContain("the first edit", await ServingAsync(nginx), StringComparison.Ordinal);
        Assert.Null((await HistoryAsync(template))[0].Sha);
        await load.EndAsync(atLeast: 50);
    }

    [Fact]
    public async Task Edited_file_becomes_a_version_even_if_postgres_was_away()
    {
        const string template = "error-page.html.sbn";
        var (file, shipped, first) = (Path.Combine(Overrides, template), await ShippedAsync(template), await NewestAsync(template));
        await File.WriteAllTextAsync(file, shipped + "<!-- by hand -->");
        await Install.EventuallyAsync(async () => await NewestAsync(template) == first + 1, TimeSpan.FromSeconds(15));
        await Install.ServiceAsync("postgres", "down");
        try
        {
            await File.WriteAllTextAsync(file, shipped + "<!-- while it was away -->");
            await Install.EventuallyAsync(async () => (await ServingAsync("global")).Contains("while it was away", StringComparison.Ordinal), TimeSpan.FromSeconds(15));
        }
        finally
        {
            await Install.ServiceAsync("postgres", "up");
        }
        await Install.EventuallyAsync(async () => (await Install.AppoxyAsync("templates", "history", template)).ExitCode == 0
            && await NewestAsync(template) == first + 2, TimeSpan.FromSeconds(30));
        var newest = (await HistoryAsync(template))[0];
        Assert.Equal("file", newest.By);
        Assert.Contains("+<!-- while it was away -->", newest.Diff, StringComparison.Ordinal);
        await Install.MustAsync("templates", "rollback", template, $"{first + 1}");
        Assert.Equal(shipped + "<!-- by hand -->", await File.ReadAllTextAsync(file));
    }

    [Theory]
    [InlineData("global.conf.sbn", ".known()", ".knwon()", "attempt to call field 'knwon'")]
    [InlineData("global.conf.sbn", "require \"appoxy.global_control\"", "require \"appoxy.nowhere\"", "module 'appoxy.nowhere' not found")]
    [InlineData("local.conf.sbn", "\"appoxy.droids\").enter()", "\"appoxy.droids\").entre()", "attempt to call field 'entre'")]
    [InlineData("local.conf.sbn", "require \"appoxy.local_control\"\n", "require \"appoxy.nowhere\"\n", "module 'appoxy.nowhere' not found")]
    public async Task Fault_in_lua_that_nginx_t_does_not_see_is_refused_before_a_visitor_meets_it(string template, string right, string wrong, string words)
    {
        await using var load = new Load(Install, Shop.Host);
        var (before, shipped) = (await EverythingAsync(), await ShippedAsync(template));
        Assert.Contains(right, shipped, StringComparison.Ordinal);
        var line = shipped[..shipped.IndexOf(right, StringComparison.Ordinal)].Split('\n').Length;
        var file = await FileOfAsync(shipped.Replace(right, wrong, StringComparison.Ordinal));
        foreach (var verb in new[] { "preview", "apply" })
        {
            var ran = await Install.AppoxyAsync("templates", verb, template, file);
            Assert.True(ran.ExitCode == 1, ran.ToString());
            Assert.StartsWith($"appoxy: {template}:{line}: ", ran.Error, StringComparison.Ordinal);
            Assert.Contains(words, ran.Error, StringComparison.Ordinal);
        }
        Assert.Equal(before, await EverythingAsync());
        await load.EndAsync(atLeast: 10);
    }

    [Theory]
    [InlineData("global.conf.sbn", ".known()", "with 500")]
    [InlineData("local.conf.sbn", "appoxy.droids\").enter()", "with 500")]
    [InlineData("global.conf.sbn", "require \"appoxy.global_control\"", "did not take")]
    public async Task Fault_that_shows_only_where_it_serves_is_rolled_back_with_its_file(string template, string right, string words)
    {
        var shipped = await ShippedAsync(template);
        await Install.MustAsync("templates", "apply", template, await FileOfAsync(shipped + "# good\n"));
        var before = await EverythingAsync();
        var (status, problem) = await ActivateAsync(template, new { text = OnlyWhereItServes(shipped, right) });
        Assert.Equal(422, status);
        Assert.Contains(words, problem.GetProperty("message").GetString(), StringComparison.Ordinal);
        Assert.Equal(before, await EverythingAsync());
        Assert.Equal(shipped + "# good\n", await File.ReadAllTextAsync(Path.Combine(Overrides, template)));
        await using var load = new Load(Install, Shop.Host, reloads: true);
        await Task.Delay(TimeSpan.FromSeconds(1));
        await load.EndAsync(atLeast: 10);
    }

    [Fact]
    public async Task Edited_file_that_was_rolled_back_is_not_tried_again()
    {
        var before = await ServingAsync("global");
        await File.WriteAllTextAsync(Path.Combine(Overrides, "global.conf.sbn"),
            OnlyWhereItServes(await ShippedAsync("global.conf.sbn"), ".known()"));
        await Install.EventuallyAsync(async () => (await Install.MustAsync("templates", "list")).Contains("with 500", StringComparison.Ordinal),
            TimeSpan.FromSeconds(15));
        Assert.Equal(before, await ServingAsync("global"));
        await using var load = new Load(Install, Shop.Host, reloads: true);
        // Past the time after which a template that nginx -t refused is tried once more.
        await Task.Delay(TimeSpan.FromSeconds(14));
        await load.EndAsync(atLeast: 200);
    }

    /// <summary>A template that passes every test, but is broken at <paramref name="right"/> for the nginx that serves.</summary>
    private static string OnlyWhereItServes(string shipped, string right)
    {
        Assert.Contains(right, shipped, StringComparison.Ordinal);
        var wrong = right.Replace("known", "knwon", StringComparison.Ordinal).Replace("enter", "entre", StringComparison.Ordinal)
            .Replace("global_control", "nowhere", StringComparison.Ordinal);
        return shipped.Replace(right, $"{{{{ if nginx.test_port }}}}{right}{{{{ else }}}}{wrong}{{{{ end }}}}", StringComparison.Ordinal);
    }

    [Fact]
    public async Task Test_of_a_template_can_neither_read_a_secret_nor_write_outside_its_folder()
    {
        var shipped = await ShippedAsync("global.conf.sbn");
        var settings = Path.Combine(Install.Prefix, "etc/appoxy/routerd.json");
        var written = Path.Combine(Install.Prefix, "written");
        foreach (var (line, path) in new[] { ($"include {settings};", settings), ($"error_log {written};", written), ("include /etc/shadow;", "/etc/shadow") })
        {
            var ran = await Install.AppoxyAsync("templates", "apply", "global.conf.sbn", await FileOfAsync($"{line}\n{shipped}"));
            Assert.True(ran.ExitCode == 1, ran.ToString());
            Assert.Contains($"\"{path}\" failed (13: Permission denied)", ran.Error, StringComparison.Ordinal);
        }
        Assert.False(File.Exists(written));
    }

    [Fact]
    public async Task Test_of_a_template_leaves_pid_file_sockets_and_folders_of_the_nginxes_alone()
    {
        var before = Listing();
        foreach (var template in new[] { "global.conf.sbn", "local.conf.sbn", "error-page.html.sbn" })
            await Install.MustAsync("templates", "preview", template, await FileOfAsync(await ShippedAsync(template)));
        Assert.Equal(before, Listing());

        IEnumerable<string> Listing() => [.. new[] { "run/appoxy", "var/lib/appoxy/nginx/global", "var/lib/appoxy/nginx/local" }
            .SelectMany(folder => new DirectoryInfo(Path.Combine(Install.Prefix, folder)).EnumerateFileSystemInfos("*", SearchOption.TopDirectoryOnly))
            .Select(f => f.Name.EndsWith(".pid", StringComparison.Ordinal) ? $"{f.FullName} {f.LastWriteTimeUtc:O} {File.ReadAllText(f.FullName)}" : f.FullName)
            .Order(StringComparer.Ordinal)];
    }

    [Theory]
    [InlineData("GET", "v1/templates/nginx.conf", null, 404)]
    [InlineData("GET", "v1/templates/..%2Froutes.json", null, 404)]
    [InlineData("GET", "v1/templates/mine.sbn/versions", null, 404)]
    [InlineData("POST", "v1/templates/mine.sbn/activate", """{"text":"x"}""", 404)]
    [InlineData("DELETE", "v1/templates/mine.sbn", null, 404)]
    [InlineData("POST", "v1/templates/global.conf.sbn/preview", "{}", 400)]
    [InlineData("POST", "v1/templates/global.conf.sbn/preview", """{"text":"\u0000"}""", 400)]
    [InlineData("POST", "v1/templates/global.conf.sbn/activate", "{}", 400)]
    [InlineData("POST", "v1/templates/global.conf.sbn/activate", """{"text":"x","version":1}""", 400)]
    [InlineData("POST", "v1/templates/global.conf.sbn/activate", """{"version":99999}""", 404)]
    [InlineData("POST", "v1/templates/global.conf.sbn/activate", """{"version":-1}""", 404)]
    [InlineData("GET", "v1/templates/global.conf.sbn/versions?limit=0", null, 400)]
    public async Task Api_refuses_what_is_no_template_or_no_version(string method, string path, string? body, int status)
    {
        var before = await EverythingAsync();
        Assert.Equal(status, await AskAsync(method, path, body));
        Assert.Equal(before, await EverythingAsync());
    }

    [Fact]
    public async Task Api_bounds_a_template_at_256_KiB()
    {
        var text = await ShippedAsync("global.conf.sbn");
        text += "#" + new string('x', (256 << 10) - text.Length - 2) + "\n";
        Assert.Equal(200, await AskAsync("POST", "v1/templates/global.conf.sbn/preview", JsonSerializer.Serialize(new { text })));
        Assert.Equal(400, await AskAsync("POST", "v1/templates/global.conf.sbn/preview", JsonSerializer.Serialize(new { text = text + "x" })));
    }

    [Fact]
    public async Task Two_activations_at_once_leave_what_one_of_them_said()
    {
        var shipped = await ShippedAsync("global.conf.sbn");
        var both = await Task.WhenAll(Enumerable.Range(1, 2).Select(n => ActivateAsync("global.conf.sbn", new { text = $"{shipped}# number {n}\n" })));
        Assert.All(both, b => Assert.Contains(b.Status, new[] { 200, 409 }));
        Assert.Contains(both, b => b.Status == 200);
        var text = await Install.MustAsync("templates", "show", "global.conf.sbn");
        Assert.Equal(text, await File.ReadAllTextAsync(Path.Combine(Overrides, "global.conf.sbn")));
        Assert.Contains(text[text.LastIndexOf("# number", StringComparison.Ordinal)..], await ServingAsync("global"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Commands_of_the_page_on_templates_succeed()
    {
        var page = await File.ReadAllTextAsync(Path.Combine(Install.Repository, "docs/templates.md"));
        var commands = page.Split("```sh\n")[1].Split("```")[0].Replace("localhost", Install.Installed("domain"), StringComparison.Ordinal);
        var folder = Directory.CreateTempSubdirectory("appoxy-docs-");
        var ran = await Install.RunAsync("bash", ["-euxc", $"cd {folder.FullName}; PATH={Install.Prefix}/bin:$PATH\n{commands}"]);
        folder.Delete(recursive: true);
        Assert.True(ran.ExitCode == 0, ran.ToString());
        Assert.Contains("console.conf.sbn:", ran.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Fifo_among_the_templates_is_named_and_what_serves_goes_on()
    {
        await using var load = new Load(Install, Shop.Host);
        var fifo = Path.Combine(Overrides, "odd.sbn");
        await Install.RunAsync("mkfifo", [fifo]);
        await Install.EventuallyAsync(async () => (await Install.MustAsync("templates", "list")).Contains($"{fifo} can't be read: it is no regular file",
            StringComparison.Ordinal), TimeSpan.FromSeconds(15));
        Assert.Equal(await ShippedAsync("global.conf.sbn"), await Install.MustAsync("templates", "show", "global.conf.sbn"));
        File.Delete(fifo);
        await Install.EventuallyAsync(async () => !(await Install.MustAsync("templates", "list", "--json")).Contains("\"error\"", StringComparison.Ordinal),
            TimeSpan.FromSeconds(15));
        await load.EndAsync(atLeast: 10);
    }

    [Fact]
    public async Task Route_tells_which_line_of_which_version_of_a_template_it_ends_in()
    {
        var shipped = await ShippedAsync("global.conf.sbn");
        var line = shipped[..shipped.IndexOf("  upstream {{ server.name }}.", StringComparison.Ordinal)].Split('\n').Length;
        Assert.Contains($"global.conf.sbn:{line}, as shipped", await Install.MustAsync("route", Shop.Host), StringComparison.Ordinal);
        await Install.MustAsync("templates", "apply", "global.conf.sbn", await FileOfAsync("# a line before\n" + shipped));
        var route = await Install.MustAsync("route", Shop.Host);
        Assert.Contains($"global.conf.sbn:{line + 1}, version {await NewestAsync("global.conf.sbn")}", route, StringComparison.Ordinal);
        Assert.Contains($"→ unix:{Install.Prefix}/run/appoxy/local-nginx.sock", route, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("log-format.conf.sbn", "\"agent\":", "\"by\":")]
    [InlineData("console.conf.sbn", "  server {\n", "  server {\n    add_header X-Edited yes;\n")]
    public async Task Included_template_is_applied_and_its_faults_name_its_own_lines(string template, string before, string after)
    {
        var shipped = await ShippedAsync(template);
        await Install.MustAsync("templates", "apply", template, await FileOfAsync(shipped.Replace(before, after, StringComparison.Ordinal)));
        Assert.Contains(after, await ServingAsync("global"), StringComparison.Ordinal);
        var ran = await Install.AppoxyAsync("templates", "apply", template, await FileOfAsync(shipped + "\nno_such_directive on;\n"));
        Assert.StartsWith($"appoxy: {template}:{shipped.Split('\n').Length + 1}: unknown directive", ran.Error, StringComparison.Ordinal);
        await Install.MustAsync("templates", "rollback", template, "0");
        Assert.DoesNotContain(after, await ServingAsync("global"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Api_documents_the_template_pipeline()
    {
        using var api = Install.Api();
        var paths = JsonDocument.Parse(await api.GetStringAsync("openapi/v1.json")).RootElement.GetProperty("paths");
        foreach (var path in new[] { "", "/{name}", "/{name}/preview", "/{name}/versions", "/{name}/activate" })
            Assert.All(paths.GetProperty($"/v1/templates{path}").EnumerateObject(), o => Assert.NotEmpty(o.Value.GetProperty("summary").GetString()!));
    }

    /// <summary>A file outside the install that holds a text.</summary>
    private async Task<string> FileOfAsync(string text)
    {
        var file = Path.Combine(Install.Prefix, "repos", "edited.sbn");
        await File.WriteAllTextAsync(file, text);
        return file;
    }

    /// <summary>What an nginx's current version holds: configuration and pages.</summary>
    private async Task<string> ServingAsync(string nginx)
    {
        var current = Path.Combine(Install.Prefix, "var/lib/appoxy/nginx", nginx, "current");
        return await File.ReadAllTextAsync(Path.Combine(current, "nginx.conf")) + await File.ReadAllTextAsync(Path.Combine(current, "pages/404.html"));
    }

    private async Task<IReadOnlyList<TemplateVersion>> HistoryAsync(string template)
    {
        using var api = Install.Api();
        return JsonSerializer.Deserialize(await api.GetStringAsync($"v1/templates/{template}/versions"), AppoxyJson.Default.PageTemplateVersion)!.Items;
    }

    private async Task<int> NewestAsync(string template) => (await HistoryAsync(template)).FirstOrDefault()?.Number ?? 0;

    private async Task<(int Status, JsonElement Body)> ActivateAsync(string template, object body)
    {
        using var api = Install.Api();
        using var response = await api.PostAsJsonAsync($"v1/templates/{template}/activate", body);
        return ((int)response.StatusCode, JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement);
    }

    private async Task<int> AskAsync(string method, string path, string? body)
    {
        using var api = Install.Api();
        using var request = new HttpRequestMessage(new HttpMethod(method), path);
        if (body is not null)
            request.Content = new StringContent(body, System.Text.Encoding.UTF8, "application/json");
        using var response = await api.SendAsync(request);
        return (int)response.StatusCode;
    }

    /// <summary>All that a refused template could have changed.</summary>
    private async Task<string> EverythingAsync()
    {
        var history = new List<int>();
        foreach (var template in new[] { "global.conf.sbn", "local.conf.sbn", "error-page.html.sbn" })
            history.Add(await NewestAsync(template));
        return string.Join(' ', Directory.EnumerateFiles(Overrides).Order(StringComparer.Ordinal)) + string.Join(' ', history)
            + await ServingAsync("global") + await ServingAsync("local");
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
