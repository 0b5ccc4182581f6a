namespace Appoxy.Routerd.Routing;

/// <summary>What becomes of an app's routing options by a change that a user asks for.</summary>
internal static class RoutingChange
{
    /// <summary>
    /// What is stored after <paramref name="change"/>; null members of it keep what is. The canary is looked up by
    /// <paramref name="findCanary"/>, which throws where it can't be one.
    /// </summary>
    /// <exception cref="Problem">400, with a clause that names each member at fault.</exception>
    public static async Task<StoredRouting> ApplyAsync(
        StoredRouting stored, AppRouting change, long maxBody, Func<string, Task<(string Uid, string Host)>> findCanary)
    {
        var faults = new List<string>();
        foreach (var rule in RoutingOption.All)
        {
            if (rule.Of(change) is not { } text)
                continue;
            var value = text == RoutingOption.Off ? null : rule.Normalize(text);
            if (text != RoutingOption.Off && value is null)
                faults.Add($"{rule.Member} is '{Shown(text)}': give {rule.Example}");
            else if (rule.Member is not ("auth" or "canary"))
                stored = With(stored, rule.Member, value);
        }
        if (maxBody > 0 && stored.MaxBody > maxBody)
            faults.Add($"maxBody is more than this platform takes, which is {Quantities.FormatBytes(maxBody)}");
        stored = Headers(stored, change, faults);
        if (faults.Count == 0)
            stored = Auth(stored, change, faults);
        if (faults.Count > 0)
            throw Problem.BadRequest(string.Join("; ", faults) + ".");
        if (change.Canary == RoutingOption.Off)
            return stored with { Canary = null };
        if (!RoutingOption.TryParseCanary(change.Canary, out var app, out var percent))
            return stored;
        var (uid, host) = await findCanary(app);
        return stored with { Canary = new StoredCanary(app, uid, host, percent) };
    }

    private static StoredRouting With(StoredRouting stored, string member, string? value) => member switch
    {
        "forceHttps" => stored with { Https = On(value) },
        "www" => stored with { Www = value },
        "maintenance" => stored with { Maintenance = On(value) },
        "maintenancePage" => stored with { MaintenancePage = value },
        "errorPage" => stored with { ErrorPage = value },
        "allowIps" => stored with { Allow = value is null ? null : RoutingOption.List(value) },
        "maxBody" => stored with { MaxBody = Quantities.TryParseBytes(value, out var bytes) ? bytes : null },
        "readTimeout" => stored with { ReadTimeout = Seconds(value) },
        "sendTimeout" => stored with { SendTimeout = Seconds(value) },
        "rateLimit" => stored with
        {
            Rate = RoutingOption.TryParseRate(value, out var count, out var seconds, out var burst) ? new(count, seconds, burst) : null,
        },
        _ => throw new InvalidOperationException($"{member} has no place in what is stored"),
    };

    private static bool? On(string? value) => value is null ? null : true;

    private static int? Seconds(string? value) => Quantities.TryParseSeconds(value, out var seconds) ? seconds : null;

    private static StoredRouting Headers(StoredRouting stored, AppRouting change, List<string> faults)
    {
        if (change.ResponseHeaders is not { Count: > 0 } given)
            return stored;
        var headers = new SortedDictionary<string, string>(stored.Headers ?? [], StringComparer.OrdinalIgnoreCase);
        foreach (var (name, value) in given)
        {
            if (value is null)
                continue;
            if (RoutingOption.HeaderFault(name, value) is { } fault)
            {
                faults.Add($"responseHeaders: {Shown(fault)}");
                continue;
            }
            headers.Remove(name);
            if (value.Length > 0)
                headers[name] = value;
        }
        if (headers.Count > RoutingOption.MaxHeaders)
            faults.Add($"responseHeaders: an app sets at most {RoutingOption.MaxHeaders}");
        return stored with { Headers = headers.Count == 0 ? null : headers };
    }

    /// <summary>The users that auth lists, each with its new password, or the one that it has.</summary>
    private static StoredRouting Auth(StoredRouting stored, AppRouting change, List<string> faults)
    {
        var rule = RoutingOption.All.Single(r => r.Member == "auth");
        var passwords = change.Passwords ?? [];
        string[] users = change.Auth switch
        {
            null => [.. stored.Auth?.Keys ?? Enumerable.Empty<string>()],
            RoutingOption.Off => [],
            var text => RoutingOption.List(rule.Normalize(text)!),
        };
        foreach (var (user, password) in passwords)
        {
            if (!users.Contains(user, StringComparer.Ordinal))
                faults.Add($"passwords: '{Shown(user)}' is none of the users in auth");
            else if (RoutingOption.PasswordFault(password) is { } fault)
                faults.Add($"passwords: {user}: {fault}");
        }
        foreach (var user in users.Where(u => !passwords.ContainsKey(u) && stored.Auth?.ContainsKey(u) is not true))
            faults.Add($"auth: {user} has no password yet: give one in passwords");
        if (faults.Count > 0)
            return stored;
        var auth = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (var user in users)
            auth[user] = passwords.TryGetValue(user, out var password) ? PasswordHash.Of(password) : stored.Auth![user];
        return stored with { Auth = auth.Count == 0 ? null : auth };
    }

    private static string Shown(string text) => new([.. text.Take(80).Where(c => !char.IsControl(c))]);
}
