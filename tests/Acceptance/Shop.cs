namespace Appoxy.Tests;

/// <summary>The node app <c>shop</c> (tests/apps/shop), deployed once for all tests that visit it.</summary>
public sealed class Shop(Install install) : IAsyncLifetime
{
    public const string Host = "shop.localhost";

    public GitRepository Repository => install.ShopRepository!;

    public string Uid { get; private set; } = "";

    public async Task InitializeAsync()
    {
        if (install.ShopRepository is null)
        {
            install.ShopRepository = await install.RepositoryOfAsync("shop", "shop");
            await install.MustAsync("apps", "create", "shop");
            await install.MustAsync("deploy", "shop", "--git", Repository.Url, "--ref", "main");
        }
        Uid = (await install.DroidAsync("shop")).Uid;
    }

    public Task DisposeAsync() => Task.CompletedTask;

    /// <summary>How often Docker has started the app's container since a moment.</summary>
    public Task<int> StartsSinceAsync(DateTimeOffset since) => EventsSinceAsync("start", since);

    /// <summary>How often something happened to the app's container since a moment, in Docker's word for it.</summary>
    public async Task<int> EventsSinceAsync(string happened, DateTimeOffset since)
    {
        var ran = await install.DockerAsync("events", "--since", Stamp(since), "--until", Stamp(DateTimeOffset.UtcNow),
            "--filter", $"label=appoxy.uid={Uid}", "--filter", "event=" + happened, "--format", "{{.ID}}");
        return ran.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length;
    }

    private static string Stamp(DateTimeOffset at) =>
        (at.ToUnixTimeMilliseconds() / 1000m).ToString("0.000", System.Globalization.CultureInfo.InvariantCulture);
}

/// <summary>Tests that visit the shop.</summary>
public abstract class ShopTests(Install install) : IAsyncLifetime
{
    protected Install Install => install;

    protected Shop Shop { get; } = new(install);

    public virtual Task InitializeAsync() => Shop.InitializeAsync();

    public virtual Task DisposeAsync() => Shop.DisposeAsync();
}
