using System.Net;

namespace Appoxy.Tests.Acceptance;

/// <summary>Each way in which a deployment can fail has its own state, reason, words and kept log, and the version before serves on.</summary>
[Collection(SecondLane.Name)]
public sealed class BuildFaultTests(Install install)
{
    [Fact]
    public async Task Each_fault_of_a_source_or_a_build_says_what_it_was_and_leaves_the_version_before()
    {
        var repository = await install.RepositoryOfAsync("folder", "faulty");
        await install.MustAsync("apps", "create", "faulty");
        await install.MustAsync("deploy", "faulty", "--git", repository.Url, "--ref", "main");
        var served = await ServedAsync();
        string[] main = ["--git", repository.Url, "--ref", "main"];

        await FailsAsync(FailureReasons.Source, "'no-such-branch'", "couldn't find remote ref no-such-branch", "--git", repository.Url, "--ref", "no-such-branch");
        await FailsAsync(FailureReasons.Source, "git can't fetch", "gone", "--git", repository.Url.Replace("faulty", "gone", StringComparison.Ordinal));
        await FailsAsync(FailureReasons.Image, "appoxy-test/no-such-image", "appoxy-test/no-such-image", "--image", "appoxy-test/no-such-image");
        await FailsAsync(FailureReasons.NoBuilderFits, "no Dockerfile", "Building", new Folder(install, "pages", "faulty").Path, "--builder", "dockerfile");

        await repository.ReplaceAsync("Dockerfile", "USER nobody", "RUN echo broken on purpose; exit 3\nUSER nobody");
        await FailsAsync(FailureReasons.Build, "returned a non-zero code: 3", "broken on purpose", main);
        await repository.ReplaceAsync("Dockerfile", "RUN echo broken on purpose; exit 3", "RUN sleep 300");
        await CancelledAsync(main);
        await install.WithSettingsAsync(settings => settings["buildTimeout"] = "2s",
            () => FailsAsync(FailureReasons.Timeout, "2s", "Running in", main));
        await repository.ReplaceAsync("Dockerfile", "RUN sleep 300\n", "");
        await install.WithSettingsAsync(settings => settings["pack"] = "/nowhere/pack", () => FailsAsync(FailureReasons.NoPack, "pack", "Building",
            new Folder(install, "pages", "faulty").Path));

        await File.WriteAllBytesAsync(Path.Combine(repository.Folder, "large"), System.Security.Cryptography.RandomNumberGenerator.GetBytes(8 << 20));
        await repository.CommitAsync("large");
        await install.WithSettingsAsync(settings => settings["sourceLimit"] = "6m", () => FailsAsync(FailureReasons.SourceTooBig, "larger than 6m", "Fetching", main));

        await install.MustAsync("apps", "destroy", "faulty", "--confirm", "faulty");

        async Task FailsAsync(string reason, string words, string logged, params string[] what)
        {
            await install.FailsAsync("faulty", reason, words, logged, what);
            Assert.Equal(served, await ServedAsync());
        }

        async Task CancelledAsync(string[] what)
        {
            var deploying = install.AppoxyAsync(["deploy", "faulty", .. what]);
            await Install.EventuallyAsync(async () => (await install.NewestAsync("faulty")).GetProperty("state").GetString() == DeploymentStates.Building,
                TimeSpan.FromSeconds(30));
            var number = (await install.NewestAsync("faulty")).GetProperty("number").ToString();
            await install.MustAsync("deployments", "faulty", "--cancel", number);
            var ran = await deploying.WaitAsync(TimeSpan.FromSeconds(30));
            Assert.True(ran.ExitCode == 1, ran.ToString());
            Assert.Equal(DeploymentStates.Cancelled, (await install.NewestAsync("faulty")).GetProperty("state").GetString());
            Assert.Contains("Cancelled", await install.MustAsync("logs", "faulty", "--build", number), StringComparison.Ordinal);
            Assert.Equal(served, await ServedAsync());
        }
    }

    private async Task<string> ServedAsync()
    {
        var (status, body, _) = await install.GetAsync("faulty.localhost");
        Assert.Equal(HttpStatusCode.OK, status);
        return body;
    }
}
