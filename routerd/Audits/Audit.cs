using System.Text.RegularExpressions;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Users;
using Npgsql;

namespace Appoxy.Routerd.Audits;

/// <summary>
/// Notes who changed what. A change by the API, and a push, is noted before it is made, and its outcome after it: one over which routerd
/// dies stands there too, without an outcome.
/// </summary>
internal static partial class Audit
{
    private const string Insert = """
        insert into audit (user_id, user_email, token, operation, target, app_uid, client, status, detail)
        values (@UserId, @UserEmail, @Token, @Operation, @Target, coalesce(@AppUid, (select uid from apps where name = @App)),
                @Client, @Status, @Detail)
        returning id
        """;

    private const int MaxTarget = 300;
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(5);

    /// <summary>Stands behind authentication and before all that may refuse.</summary>
    public static async Task BeginAsync(HttpContext http, RequestDelegate next)
    {
        if (!HttpMethods.IsGet(http.Request.Method) && http.GetEndpoint() is RouteEndpoint endpoint
            && Access.Of(endpoint) is { Scope: > Scope.Read } && Caller.Find(http) is { } caller)
        {
            var db = http.RequestServices.GetRequiredService<NpgsqlDataSource>();
            var id = await InsertAsync(db, new AuditRow
            {
                UserId = caller.Id,
                UserEmail = caller.Email,
                Token = caller.TokenName,
                Operation = $"{http.Request.Method} /{endpoint.RoutePattern.RawText?.Trim('/')}",
                Target = Shown(http.Request.Path),
                App = http.GetRouteValue("app") as string,
                Client = ClientAddress.Of(http).ToString(),
            }, http.RequestAborted);
            http.Features.Set(new AuditEntry(id));
        }
        await next(http);
    }

    /// <summary>Stands before all that answers, errors too.</summary>
    public static async Task EndAsync(HttpContext http, RequestDelegate next)
    {
        try
        {
            await next(http);
        }
        finally
        {
            if (http.Features.Get<AuditEntry>() is { } entry)
                await NoteAsync(http, entry);
        }
    }

    /// <summary>Notes what is no change by the API.</summary>
    public static Task AddAsync(NpgsqlDataSource db, AuditRow row, CancellationToken cancel) => InsertAsync(db, row, cancel);

    /// <summary>The same, in the transaction of the change.</summary>
    public static Task AddAsync(NpgsqlConnection connection, AuditRow row, CancellationToken cancel) =>
        connection.FirstAsync<long>(Insert, row, cancel);

    private static async Task NoteAsync(HttpContext http, AuditEntry entry)
    {
        // The caller may be gone, what was done is not.
        using var bound = new CancellationTokenSource(Limit);
        var made = http.Response.StatusCode is 201 or 202 ? http.Response.Headers.Location.ToString() : "";
        try
        {
            await http.RequestServices.GetRequiredService<NpgsqlDataSource>().RunAsync("""
                update audit set status = @status, detail = @Detail, target = coalesce(nullif(@made, ''), target),
                  app_uid = coalesce(app_uid, (select uid from apps where name = @app))
                where id = @Id
                """, new { entry.Id, status = http.Response.StatusCode, entry.Detail, made, app = NewApp().Match(made).Groups[1].Value },
                bound.Token);
        }
        catch (Exception e) when (Outage.IsPostgres(e) || e is OperationCanceledException)
        {
            LogUnnoted(http.RequestServices.GetRequiredService<ILogger<AuditEntry>>(), entry.Id, http.Response.StatusCode, Outage.Words(e));
        }
    }

    private static async Task<long> InsertAsync(NpgsqlDataSource db, AuditRow row, CancellationToken cancel) =>
        await db.FirstAsync<long>(Insert, row, cancel);

    private static string Shown(string path) =>
        new([.. path.Take(MaxTarget).Select(c => char.IsControl(c) || char.IsSurrogate(c) ? '?' : c)]);

    [GeneratedRegex("^/v1/apps/([a-z0-9-]+)$")]
    private static partial Regex NewApp();

    [LoggerMessage(Level = LogLevel.Warning, Message = "Entry {Id} of the audit log lacks its outcome, {Status}: {Fault}")]
    private static partial void LogUnnoted(ILogger log, long id, int status, string fault);
}

/// <summary>The entry of a request that is under way.</summary>
internal sealed class AuditEntry(long id)
{
    public long Id => id;

    /// <summary>Names of what is changed, never values.</summary>
    public string Detail { get; set; } = "";
}

/// <summary>An entry as Postgres holds it.</summary>
internal sealed record AuditRow
{
    public long Id { get; init; }
    public DateTime At { get; init; }
    public long? UserId { get; init; }
    public string UserEmail { get; init; } = "";
    public string Token { get; init; } = "";
    public required string Operation { get; init; }
    public string Target { get; init; } = "";

    /// <summary>The app's name; <see cref="AppUid"/> is looked up by it.</summary>
    public string? App { get; init; }
    public string? AppUid { get; init; }
    public string Client { get; init; } = "";
    public int? Status { get; init; }
    public string Detail { get; init; } = "";
}
