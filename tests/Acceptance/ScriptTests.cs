using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

/// <summary>The scripts of an app.json.</summary>
[Collection(SecondLane.Name)]
public sealed class ScriptTests(Install install)
{
    private const string Scripts = """
        {
          // As Dokku and Heroku have it.
          "name": "scripted",
          "scripts": {
            "dokku": { "predeploy": "echo before, $GREETING $DYNO; exit $(cat before.code)", "postdeploy": "echo after; exit $(cat after.code)" },
            "postdeploy": "echo the very first"
          },
        }
        """;

    [Fact]
    public async Task Scripts_of_an_app_json_run_before_and_after_a_version_begins_to_serve()
    {
        var folder = new Folder(install, "folder", "scripted").Write("app.json", Scripts).Write("before.code", "0").Write("after.code", "0")
            .Write("version.txt", "1");
        await install.MustAsync("apps", "create", "scripted");
        await install.MustAsync("env", "set", "scripted", "GREETING=hello");
        var first = await install.MustAsync("deploy", "scripted", folder.Path);
        string[] order = ["before, hello predeploy.1", "-----> Starting", "after", "the very first", "-----> Live"];
        Assert.Equal(order.Select(o => first.IndexOf(o, StringComparison.Ordinal)).Order(), order.Select(o => first.IndexOf(o, StringComparison.Ordinal)));
        Assert.All(order, words => Assert.Contains(words, first, StringComparison.Ordinal));

        // What serves is not taken back for what fails after it.
        folder.Write("after.code", "3").Write("version.txt", "2");
        var second = await install.MustAsync("deploy", "scripted", folder.Path);
        Assert.Contains("the postdeploy script exited with code 3; the new version serves all the same", second, StringComparison.Ordinal);
        Assert.DoesNotContain("the very first", second, StringComparison.Ordinal);

        folder.Write("before.code", "4").Write("version.txt", "3");
        var third = await install.AppoxyAsync("deploy", "scripted", folder.Path);
        Assert.True(third.ExitCode == 1 && third.Error.Contains("the predeploy script exited with code 4", StringComparison.Ordinal), third.ToString());
        Assert.Equal("release", JsonDocument.Parse(await install.MustAsync("deployments", "scripted", "--json")).RootElement[0].GetProperty("reason").GetString());
        Assert.DoesNotContain("before, ", await install.MustAsync("rollback", "scripted"), StringComparison.Ordinal);

        folder.Write("app.json", "{ \"scripts\": { \"postdeploy\": 7 } }");
        Assert.Contains("app.json: scripts: postdeploy is no command", (await install.AppoxyAsync("deploy", "scripted", folder.Path)).ToString(), StringComparison.Ordinal);
        await install.MustAsync("apps", "destroy", "scripted", "--confirm", "scripted");
    }

    [Fact]
    public async Task Scripts_run_in_what_buildpacks_built()
    {
        var folder = new Folder(install, "pages", "scripted-pack").Write("app.json", """{"scripts":{"postdeploy":"test -f server.js && echo \"built by $DYNO\""}}""");
        await install.MustAsync("apps", "create", "scripted-pack");
        Assert.Contains("built by postdeploy.1", await install.MustAsync("deploy", "scripted-pack", folder.Path), StringComparison.Ordinal);
        await install.MustAsync("apps", "destroy", "scripted-pack", "--confirm", "scripted-pack");
    }
}
