using Appoxy.Routerd.Database;
using Appoxy.Routerd.Routes;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd;

/// <summary><c>/healthz</c>: the process serves. <c>/readyz</c>: it can also do what it is asked.</summary>
internal static class Health
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(2);

    public static void MapHealth(this WebApplication app)
    {
        app.MapGet("/healthz", () => TypedResults.Text("ok\n")).OpenToAll();
        app.MapGet("/readyz", ReadyAsync).OpenToAll();
    }

    private static async Task<ContentHttpResult> ReadyAsync(NpgsqlDataSource db, Redis redis, CancellationToken cancel)
    {
        using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(Limit);
        var postgres = AnswersAsync(() => db.FirstAsync<long>("select version from route_version", null, bound.Token));
        var routes = AnswersAsync(() => redis.Database.PingAsync());
        string[] away = [.. new[] { (await postgres, "Postgres"), (await routes, "Redis") }.Where(p => !p.Item1).Select(p => p.Item2)];
        return away.Length == 0 ? TypedResults.Text("ok\n")
            : throw Problem.Unavailable($"{string.Join(" and ", away)} can't be used right now.");
    }

    private static async Task<bool> AnswersAsync(Func<Task> ask)
    {
        try
        {
            await ask().WaitAsync(Limit);
            return true;
        }
        catch (Exception e) when (Outage.Is(e) || e is OperationCanceledException)
        {
            return false;
        }
    }
}
