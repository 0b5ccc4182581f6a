using System.Security.Cryptography;
using System.Text.Json.Serialization;
using Appoxy.Routerd.Database;

namespace Appoxy.Routerd.Routing;

/// <summary>
/// An app's routing options as Postgres and Redis hold them and the global nginx reads them (lua/appoxy/options.lua): numbers in
/// seconds and bytes, networks masked, passwords hashed. What is not set is left out.
/// </summary>
internal sealed record StoredRouting
{
    public bool? Https { get; init; }

    /// <summary><c>to-apex</c> or <c>to-www</c>.</summary>
    public string? Www { get; init; }
    public bool? Maintenance { get; init; }
    public string? MaintenancePage { get; init; }
    public string? ErrorPage { get; init; }

    /// <summary>User → <see cref="PasswordHash"/>.</summary>
    public SortedDictionary<string, string>? Auth { get; init; }
    public string[]? Allow { get; init; }
    public long? MaxBody { get; init; }
    public int? ReadTimeout { get; init; }
    public int? SendTimeout { get; init; }
    public StoredRate? Rate { get; init; }
    public SortedDictionary<string, string>? Headers { get; init; }
    public StoredCanary? Canary { get; init; }

    public static StoredRouting Read(string json) => Postgres.FromJson(json, StoredRoutingJson.Default.StoredRouting);

    /// <summary>As users write it; <see cref="RoutingOption.Off"/> for what is not set.</summary>
    public AppRouting Show()
    {
        var shown = new AppRouting
        {
            ForceHttps = On(Https),
            Www = Www,
            Maintenance = On(Maintenance),
            MaintenancePage = MaintenancePage,
            ErrorPage = ErrorPage,
            Auth = Auth is null ? null : string.Join(',', Auth.Keys),
            AllowIps = Allow is null ? null : string.Join(',', Allow),
            MaxBody = MaxBody is { } bytes ? Quantities.FormatBytes(bytes) : null,
            ReadTimeout = ReadTimeout is { } read ? Quantities.FormatSeconds(read) : null,
            SendTimeout = SendTimeout is { } send ? Quantities.FormatSeconds(send) : null,
            RateLimit = Rate is { } rate ? RoutingOption.FormatRate(rate.Count, rate.Seconds, rate.Burst) : null,
            Canary = Canary is { } canary ? $"{canary.App}:{canary.Percent}" : null,
            ResponseHeaders = new Dictionary<string, string>(Headers ?? []),
        };
        return RoutingOption.All.Aggregate(shown, (s, rule) => rule.With(s, rule.Of(s) ?? RoutingOption.Off));
    }

    /// <summary>The names of what is set.</summary>
    public IReadOnlyList<string> Names()
    {
        var shown = Show();
        return [.. RoutingOption.All.Where(o => o.Of(shown) != RoutingOption.Off).Select(o => o.Name), .. Headers is null ? [] : new[] { "response-headers" }];
    }

    private static string? On(bool? value) => value is true ? "on" : null;
}

/// <summary>So many requests in so many seconds from one client, and so many at once beyond that.</summary>
internal sealed record StoredRate(int Count, int Seconds, int Burst);

/// <summary>The app that gets a share of the visitors, and its own hostname, by whose route nginx finds it while it has this uid.</summary>
internal sealed record StoredCanary(string App, string Uid, string Host, int Percent);

/// <summary>
/// What is kept of a password for visitors: <c>pbkdf2-sha256$ITERATIONS$SALT$HASH</c>, both in base64. nginx checks it where all
/// its other visitors wait, so the iterations are few for a hash of this kind (about 10 ms), and guesses are limited.
/// </summary>
internal static class PasswordHash
{
    private const int Iterations = 50_000;

    public static string Of(string password)
    {
        var salt = RandomNumberGenerator.GetBytes(16);
        var hash = Rfc2898DeriveBytes.Pbkdf2(password, salt, Iterations, HashAlgorithmName.SHA256, 32);
        return $"pbkdf2-sha256${Iterations}${Convert.ToBase64String(salt)}${Convert.ToBase64String(hash)}";
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(StoredRouting))]
internal sealed partial class StoredRoutingJson : JsonSerializerContext;
