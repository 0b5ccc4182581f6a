using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

/// <summary>Faults made on purpose, and whether <c>appoxy doctor</c> names each of them and nothing else.</summary>
[Collection(ThirdLane.Name)]
public sealed class DoctorTests(Install install)
{
    [Fact]
    public async Task Doctor_names_each_fault_and_its_fix()
    {
        // Whatever tests before have left is not what is looked for.
        await Install.EventuallyAsync(async () => (await FaultsAsync()).Except(["disk"]).ToList() is [], TimeSpan.FromSeconds(30));

        await install.ServiceAsync("redis", "down");
        try
        {
            await FoundAsync("redis");
        }
        finally
        {
            await install.ServiceAsync("redis", "up");
        }
        await install.ServiceAsync("droidd", "down");
        try
        {
            await FoundAsync("droidd ds1");
        }
        finally
        {
            await install.ServiceAsync("droidd", "up");
        }
        var key = Path.Combine(install.Prefix, "etc/appoxy/secrets.key");
        File.Move(key, key + ".away");
        try
        {
            Assert.Contains(key, (await FoundAsync("secrets")).Fault, StringComparison.Ordinal);
        }
        finally
        {
            File.Move(key + ".away", key);
        }
        var template = Path.Combine(install.Prefix, "etc/appoxy/templates/error-page.html.sbn");
        await File.WriteAllTextAsync(template, "{{ no_such_member }}");
        try
        {
            Assert.Contains("error-page.html.sbn", (await FoundAsync("global-nginx r1")).Fault, StringComparison.Ordinal);
            await FoundAsync("local-nginx ds1");
        }
        finally
        {
            File.Delete(template);
        }
        await Install.EventuallyAsync(async () => (await FaultsAsync()).Except(["disk"]).ToList() is [], TimeSpan.FromSeconds(60));
        await install.ServiceAsync("routerd", "down");
        try
        {
            await install.ServiceAsync("redis", "down");
            // The CLI sees by itself what it can; routerd is known by its absence.
            var ran = await install.AppoxyAsync("doctor");
            Assert.Equal(1, ran.ExitCode);
            Assert.Contains("provision.sh --start", ran.Output, StringComparison.Ordinal);
            await FoundAsync("routerd");
            await FoundAsync("redis");
        }
        finally
        {
            await install.ServiceAsync("redis", "up");
            await install.ServiceAsync("routerd", "up");
        }
        await Install.EventuallyAsync(async () => (await FaultsAsync()).Except(["disk"]).ToList() is [], TimeSpan.FromSeconds(60));
        if ((await FaultsAsync()).Count == 0)
            Assert.Equal(0, (await install.AppoxyAsync("doctor")).ExitCode);
    }

    private async Task<Finding> FoundAsync(string check)
    {
        Finding? found = null;
        await Install.EventuallyAsync(async () =>
        {
            var all = await FindingsAsync();
            found = all.FirstOrDefault(f => f.Fault is not null && NameOf(f) == check);
            return found is not null;
        }, TimeSpan.FromSeconds(40), $"{check} is found");
        Assert.False(string.IsNullOrEmpty(found!.Fix));
        return found;
    }

    private async Task<List<string>> FaultsAsync() => [.. (await FindingsAsync()).Where(f => f.Fault is not null).Select(NameOf)];

    private async Task<List<Finding>> FindingsAsync()
    {
        var ran = await install.AppoxyAsync("doctor", "--json");
        var found = JsonSerializer.Deserialize(ran.Output, AppoxyJson.Default.ListFinding)!;
        Assert.Equal(found.Any(f => f.Fault is not null) ? 1 : 0, ran.ExitCode);
        return found;
    }

    private static string NameOf(Finding f) => f.Server is null ? f.Check : $"{f.Check} {f.Server}";
}
