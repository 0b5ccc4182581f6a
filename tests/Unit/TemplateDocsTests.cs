using System.Reflection;
using System.Runtime.CompilerServices;
using Appoxy.Droidd.LocalNginx;
using Appoxy.Nginx;
using Appoxy.Routerd.Templates;
using Scriban.Runtime;

namespace Appoxy.Tests.Unit;

public sealed class TemplateDocsTests
{
    private static readonly string Repository = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(Here())!, "../.."));

    [Fact]
    public async Task Page_on_templates_names_every_member_and_every_template()
    {
        var page = await File.ReadAllTextAsync(Path.Combine(Repository, "docs/templates.md"));
        string[] wanted = [.. Members(typeof(GlobalModel)), .. Members(typeof(LocalModel)), .. Members(typeof(NginxSettings), "nginx."),
            .. Members(typeof(RedisModel), "redis."), .. Members(typeof(ServerModel)),
            .. Directory.EnumerateFiles(Path.Combine(Repository, "templates")).Select(Path.GetFileName)!];
        Assert.All(wanted.Except(["nginx", "redis"]), name => Assert.Contains($"`{name}`", page, StringComparison.Ordinal));
    }

    private static IEnumerable<string> Members(Type model, string prefix = "") =>
        model.GetProperties(BindingFlags.Public | BindingFlags.Instance).Select(p => prefix + StandardMemberRenamer.Rename(p.Name));

    private static string Here([CallerFilePath] string path = "") => path;
}
