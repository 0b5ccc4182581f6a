using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text.Json;
using Xunit.Abstractions;

namespace Appoxy.Tests.Acceptance;

/// <summary>
/// droidd and dockerd are killed at random moments of whatever they are at, and come back to what is wanted each time, with nothing
/// left over.
/// </summary>
/// <remarks>APPOXY_TEST_KILLS and APPOXY_TEST_DOCKER_KILLS say how often, APPOXY_TEST_SEED repeats a run's choices.</remarks>
[Collection(SecondLane.Name)]
public sealed class KillTests(Install install, ITestOutputHelper output)
{
    private const string First = "killed-a", Second = "killed-b", Fleeting = "killed-c";
    private static readonly TimeSpan Converges = TimeSpan.FromSeconds(90);
    private int version = 1;
    private HashSet<string> others = [];

    /// <summary>Apps that were sent to sleep, and that nobody has visited since: they are to stay asleep over all kills.</summary>
    private readonly HashSet<string> asleep = [];

    [Fact]
    public async Task Killed_droidd_or_dockerd_comes_back_to_what_is_wanted_and_leaves_nothing_over()
    {
        var seed = Number("APPOXY_TEST_SEED", Random.Shared.Next(100_000));
        var random = new Random(seed);
        output.WriteLine($"seed {seed}");
        foreach (var app in new[] { First, Second })
        {
            await install.MustAsync("apps", "create", app);
            await install.MustAsync("volumes", "create", app, "data", "/data");
            await install.MustAsync("deploy", app, NewVersion(app));
        }
        var kills = Enumerable.Repeat("droidd", Number("APPOXY_TEST_KILLS", 2)).Concat(Enumerable.Repeat("docker", Number("APPOXY_TEST_DOCKER_KILLS", 1))).ToArray();
        random.Shuffle(kills);
        foreach (var (round, killed) in kills.Index())
        {
            var (what, acting) = Act(random);
            var wait = random.Next(2500);
            await Task.Delay(wait);
            await install.KillAsync(killed);
            var since = Stopwatch.StartNew();
            var did = await acting.WaitAsync(TimeSpan.FromMinutes(2));
            // One that was refused or cut off may have done it all the same, or not; one that was answered has.
            if (what.StartsWith("snooze ", StringComparison.Ordinal) && did.ExitCode == 0)
                asleep.Add(what["snooze ".Length..]);
            string? missing = null;
            while ((missing = await MissingAsync()) is not null && since.Elapsed < Converges)
                await Task.Delay(1000);
            output.WriteLine($"{round + 1}. {what}, kill -9 of {killed} after {wait} ms: exit {did.ExitCode}{(asleep.Count > 0 ? $", {string.Join(" and ", asleep)} asleep" : "")}, as wanted after {since.Elapsed.TotalSeconds:0.0} s");
            Assert.True(missing is null, $"seed {seed}, round {round + 1}, {what}, kill of {killed} after {wait} ms: {missing}\n{did}");
        }
        foreach (var app in await AppsAsync())
            await install.MustAsync("apps", "destroy", app, "--confirm", app);
        Assert.Null(await MissingAsync());
    }

    private (string What, Task<Ran> Acting) Act(Random random)
    {
        var app = random.Next(2) == 0 ? First : Second;
        var act = random.Next(8);
        // Each of them may wake it.
        if (act < 7)
            asleep.Remove(app);
        return act switch
        {
            0 or 1 => ($"deploy {app}", install.AppoxyAsync("deploy", app, NewVersion(app))),
            2 => ($"snooze {app}", install.AppoxyAsync("snooze", app)),
            3 => ($"wake {app}", WakeAsync(app)),
            4 => ($"env of {app}", install.AppoxyAsync("env", "set", app, $"ROUND={random.Next()}")),
            5 => ($"roll back {app}", install.AppoxyAsync("rollback", app)),
            6 => ($"restart {app}", install.AppoxyAsync("restart", app)),
            _ => ($"create, deploy and destroy {Fleeting}", ComeAndGoAsync(random.Next(1500))),
        };
    }

    private string NewVersion(string app) => new Folder(install, "folder", app).Write("version.txt", $"{version++}").Path;

    private async Task<Ran> WakeAsync(string app)
    {
        await install.AppoxyAsync("snooze", app);
        try
        {
            var (status, body, _) = await install.GetAsync(app + ".localhost");
            return new Ran((int)status, body, "");
        }
        catch (HttpRequestException e)
        {
            return new Ran(1, "", e.Message);
        }
    }

    private async Task<Ran> ComeAndGoAsync(int pause)
    {
        await install.AppoxyAsync("apps", "create", Fleeting);
        var deploying = install.AppoxyAsync("deploy", Fleeting, NewVersion(Fleeting));
        await Task.Delay(pause);
        var destroyed = await install.AppoxyAsync("apps", "destroy", Fleeting, "--confirm", Fleeting);
        await deploying;
        return destroyed;
    }

    /// <summary>What is not yet as it must be; null when all is.</summary>
    private async Task<string?> MissingAsync()
    {
        try
        {
            var apps = await AppsAsync();
            var uids = new HashSet<string>();
            foreach (var app in apps)
            {
                var deployments = JsonDocument.Parse(await MustAsync("deployments", app, "--json")).RootElement.EnumerateArray().ToArray();
                if (deployments.FirstOrDefault(d => !DeploymentStates.IsFinal(d.GetProperty("state").GetString()!)) is { ValueKind: JsonValueKind.Object } open)
                    return $"deployment {open.GetProperty("number")} of {app} is {open.GetProperty("state")}";
                var droid = await install.DroidAsync(app);
                uids.Add(droid.Uid);
                if (asleep.Contains(app))
                {
                    // To visit it would wake it.
                    var runs = await DockerAsync("ps", "--filter", $"label=appoxy.uid={droid.Uid}", "--format", "{{.Names}} {{.Status}}");
                    if (droid.State != DroidStates.Snoozed || runs.Length > 0)
                        return $"{app} was sent to sleep and is {droid.State}; of it runs: {runs}";
                }
                else if (deployments.Any(d => d.GetProperty("state").GetString() == DeploymentStates.Live))
                {
                    var (status, body, _) = await install.GetAsync(app + ".localhost");
                    if (status != HttpStatusCode.OK || !int.TryParse(body, NumberStyles.None, CultureInfo.InvariantCulture, out _))
                        return $"{app} answers {(int)status} {body[..Math.Min(60, body.Length)]}";
                    droid = await install.DroidAsync(app);
                    if (droid.State != DroidStates.Running || droid.Live is null)
                        return $"{app} answers, and is said to be {droid.State}";
                    var live = await DockerAsync("ps", "--filter", "status=running", "--filter", $"label=appoxy.uid={droid.Uid}", "--format", "{{.ID}}", "--no-trunc");
                    if (live != droid.Live.Container)
                        return $"of {app} these run: {live}; the live one is {droid.Live.Container}";
                }
            }
            var ours = (await DockerAsync("ps", "-a", "--format", "{{.Names}} {{.Label \"appoxy.uid\"}} {{.State}}")).Split('\n', StringSplitOptions.RemoveEmptyEntries);
            var killed = ours.Where(c => !c.Contains(' ', StringComparison.Ordinal) || c.Split(' ') is [var name, var uid, var state]
                && (uid.Length == 0 || name.EndsWith(".next", StringComparison.Ordinal) || name.Contains(".old", StringComparison.Ordinal) || state == "created"
                    || !Known(uid)));
            if (killed.FirstOrDefault() is { } container)
                return $"container {container}";
            var images = (await DockerAsync("images", "--format", "{{.Repository}}")).Split('\n', StringSplitOptions.RemoveEmptyEntries)
                .Where(i => i.StartsWith("appoxy/", StringComparison.Ordinal)).GroupBy(i => i["appoxy/".Length..]);
            if (images.FirstOrDefault(i => !Known(i.Key) || (uids.Contains(i.Key) && i.Count() > 3)) is { } image)
                return $"{image.Count()} images of {image.Key}";
            var volumes = (await DockerAsync("volume", "ls", "--format", "{{.Name}} {{.Label \"appoxy.uid\"}}")).Split('\n', StringSplitOptions.RemoveEmptyEntries);
            if (volumes.Where(v => v.StartsWith("appoxy-volume-", StringComparison.Ordinal)).FirstOrDefault(v => v.Split(' ') is not [_, var uid] || !Known(uid)) is { } volume)
                return $"volume {volume}";
            if (await DockerAsync("network", "ls", "--format", "{{.Name}}") is var networks && networks != "droid-build\ndroid-net\nhost\nnone")
                return $"networks {networks}";
            if (Directory.EnumerateDirectories($"{install.Prefix}/var/lib/appoxy/droids").Select(f => Path.GetFileName(f)!).FirstOrDefault(f => !Known(f)) is { } folder)
                return $"folder {folder}";
            return Directory.EnumerateDirectories($"{install.Prefix}/var/lib/appoxy/droids", "source", new EnumerationOptions { RecurseSubdirectories = true, MaxRecursionDepth = 3 })
                .FirstOrDefault();

            bool Known(string uid) => uids.Contains(uid) || others.Contains(uid);
        }
        catch (Exception e) when (e is HttpRequestException or InvalidOperationException or JsonException or TaskCanceledException)
        {
            return e.Message;
        }
    }

    private async Task<string[]> AppsAsync()
    {
        var all = JsonDocument.Parse(await MustAsync("apps", "list", "--json")).RootElement.EnumerateArray()
            .Select(a => (Name: a.GetProperty("name").GetString()!, Uid: a.GetProperty("uid").GetString()!)).ToArray();
        others = [.. all.Where(a => !a.Name.StartsWith("killed-", StringComparison.Ordinal)).Select(a => a.Uid)];
        return [.. all.Select(a => a.Name).Where(n => n.StartsWith("killed-", StringComparison.Ordinal))];
    }

    private async Task<string> MustAsync(params string[] arguments)
    {
        var ran = await install.AppoxyAsync(arguments);
        return ran.ExitCode == 0 ? ran.Output : throw new InvalidOperationException(ran.ToString());
    }

    private async Task<string> DockerAsync(params string[] arguments)
    {
        var ran = await install.DockerAsync(arguments);
        return ran.ExitCode == 0 ? ran.Output.TrimEnd() : throw new InvalidOperationException(ran.ToString());
    }

    private static int Number(string variable, int otherwise) =>
        Environment.GetEnvironmentVariable(variable) is { } text ? int.Parse(text, CultureInfo.InvariantCulture) : otherwise;
}
