using System.Collections.Concurrent;
using System.Text.Json;
using System.Text.Json.Serialization;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Templates;

/// <summary>
/// Tells the other routerds, every few seconds and after each change, which template versions this machine's nginxes have taken or
/// refused; and learns the same of the others.
/// </summary>
internal sealed class Proxies(RouterdSettings settings, NpgsqlDataSource db, GlobalConfig global, ILogger<Proxies> log, TimeProvider time)
    : Rounds(TimeSpan.FromSeconds(2), log)
{
    /// <summary>From then on a proxy that says nothing is away.</summary>
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(10);

    /// <summary>How long a proxy may take to begin with a new version, and how long to test, switch, probe and go back.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15), ApplyPatience = TimeSpan.FromSeconds(75);
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(50);

    private readonly ConcurrentDictionary<string, TemplateOutcome> taken = new();
    private volatile bool applying;

    /// <summary>What this machine's nginxes did with the newest version that they got; null before the first.</summary>
    public TemplateOutcome? Outcome(string template) => taken.GetValueOrDefault(template);

    /// <summary>Says that this machine is at work on a version, so that others wait for it.</summary>
    public async Task BeginAsync(CancellationToken cancel)
    {
        applying = true;
        await ReportAsync(cancel);
    }

    /// <summary>Says what became of versions here.</summary>
    public async Task EndAsync(IEnumerable<(string Template, TemplateOutcome Outcome)> outcomes, CancellationToken cancel)
    {
        applying = false;
        foreach (var (template, outcome) in outcomes)
            taken[template] = outcome;
        await ReportAsync(cancel);
    }

    protected override async Task RoundAsync(CancellationToken cancel)
    {
        await ReportAsync(cancel);
        await db.RunAsync("delete from proxies where seen_at < now() - interval '1 day'", null, cancel);
    }

    private Task<int> ReportAsync(CancellationToken cancel)
    {
        var status = global.Status;
        return db.RunAsync("""
            insert into proxies (name, config, error, since, templates, applying)
            values (@Name, @Version, @error::jsonb, @At, @templates::jsonb, @applying)
            on conflict (name) do update set config = excluded.config, error = excluded.error, since = excluded.since,
              templates = excluded.templates, applying = excluded.applying, seen_at = now()
            """, new
        {
            settings.Name,
            status.Version,
            error = status.Error is null ? null : JsonSerializer.Serialize(status.Error, ProxiesJson.Default.TemplateError),
            At = status.At.UtcDateTime,
            templates = JsonSerializer.Serialize(new(taken), ProxiesJson.Default.DictionaryStringTemplateOutcome),
            applying,
        }, cancel);
    }

    /// <summary>This proxy as it is now, then all others by name, as they said last.</summary>
    public async Task<List<TemplateStatus>> ListAsync(CancellationToken cancel)
    {
        var own = global.Status with { Name = settings.Name, Templates = taken.ToDictionary(t => t.Key, t => t.Value.Number) };
        try
        {
            return [own, .. (await OthersAsync(cancel)).Select(p => new TemplateStatus("global", p.Config, p.Away ? null : p.Fault, p.Since)
            {
                Name = p.Name,
                Templates = p.Taken.ToDictionary(t => t.Key, t => t.Value.Number),
                AwaySince = p.Away ? p.SeenAt : null,
            })];
        }
        catch (Exception e) when (Outage.IsPostgres(e))
        {
            return [own];
        }
    }

    /// <summary>
    /// Waits until each other proxy that is not away has taken a version, or one of them has refused it, or it takes too long.
    /// </summary>
    public async Task<(TemplateRefusal? Refusal, IReadOnlyList<string> Waiting)> AwaitAsync(
        string template, int number, CancellationToken cancel)
    {
        var begun = time.GetTimestamp();
        while (true)
        {
            var (pending, busy, away) = (new List<string>(), false, new List<string>());
            foreach (var proxy in await OthersAsync(cancel))
            {
                var outcome = proxy.Taken.GetValueOrDefault(template);
                if (outcome is { Error: { } error } && outcome.Number == number)
                    return (new TemplateRefusal(error, proxy.Name), []);
                if (outcome is not null && outcome.Number >= number)
                    continue;
                (proxy.Away ? away : pending).Add(proxy.Name);
                busy |= proxy is { Away: false, Applying: true };
            }
            if (pending.Count == 0 || time.GetElapsedTime(begun) > (busy ? ApplyPatience : Patience))
                return (null, [.. pending, .. away]);
            await Task.Delay(Poll, time, cancel);
        }
    }

    private Task<List<ProxyRow>> OthersAsync(CancellationToken cancel) => db.ListAsync<ProxyRow>("""
        select name, config, error, since, templates, applying, seen_at, seen_at < now() - @Silence as away from proxies
        where name <> @Name order by name
        """, new { settings.Name, Silence }, cancel);

    private sealed record ProxyRow
    {
        public string Name { get; init; } = "";
        public string? Config { get; init; }
        public string? Error { get; init; }
        public DateTime Since { get; init; }
        public string Templates { get; init; } = "{}";
        public bool Applying { get; init; }
        public DateTime SeenAt { get; init; }
        public bool Away { get; init; }

        public TemplateError? Fault => Error is null ? null : Postgres.FromJson(Error, ProxiesJson.Default.TemplateError);

        public Dictionary<string, TemplateOutcome> Taken =>
            Postgres.FromJson(Templates, ProxiesJson.Default.DictionaryStringTemplateOutcome);
    }
}

/// <summary>What a machine's nginxes did with a version.</summary>
/// <param name="Number">The version; 0 for a template that was never changed.</param>
/// <param name="Error">Why they refused it; null where they serve it.</param>
internal sealed record TemplateOutcome(int Number, TemplateError? Error = null);

/// <summary>That a text is not served, and so is undone everywhere.</summary>
/// <param name="Error">Why.</param>
/// <param name="Proxy">Where; null for the one that was asked.</param>
internal sealed record TemplateRefusal(TemplateError Error, string? Proxy = null)
{
    public override string ToString() => Proxy is null ? Error.ToString() : $"{Error} (so says the proxy {Proxy}; undone on all)";
}

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(Dictionary<string, TemplateOutcome>))]
[JsonSerializable(typeof(TemplateError))]
internal sealed partial class ProxiesJson : JsonSerializerContext;
