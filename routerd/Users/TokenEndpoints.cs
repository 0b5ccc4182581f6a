using Appoxy.Routerd.Apps;
using Appoxy.Routerd.Audits;
using Appoxy.Routerd.Database;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Users;

/// <summary><c>/v1/tokens</c>: a user's own tokens. A new one is asked for by email and password, or with a token.</summary>
internal static class TokenEndpoints
{
    private const int MaxTokens = 200;
    private const string DefaultExpiry = "365d";

    /// <summary>A sign-in lasts so long from each use on.</summary>
    private static readonly TimeSpan SignInLasts = TimeSpan.FromDays(90);

    public static void MapTokens(this WebApplication app)
    {
        app.MapPost("/v1/tokens", CreateAsync).OpenToAll().WithMetadata(new OptionalToken())
            .WithSummary("A new token: for email and password, for the code of a sign-in by a browser, or, with a token, one of another scope");
        app.MapGet("/v1/tokens", ListAsync).RequireScope(Scope.Read).WithSummary("One's own tokens, none of them in full");
        app.MapDelete("/v1/tokens/{id:long}", RevokeAsync).RequireScope(Scope.Write).WithSummary("Ends one of one's own tokens");
    }

    private static async Task<Created<IssuedToken>> CreateAsync(
        NewToken body, HttpContext http, NpgsqlDataSource db, CancellationToken cancel)
    {
        if (body.Name is { } name && !IsName(name))
            throw Problem.BadRequest("A token's name has 1 to 100 characters.");
        if (body.Code is not null || body.Verifier is not null)
        {
            if (body with { Code = null, Verifier = null } != new NewToken())
                throw Problem.BadRequest("With a code there is its verifier, and nothing else.");
            var (signedIn, asked) = await SignInCodes.RedeemAsync(body.Code, body.Verifier, http, db, cancel);
            return await SignInAsync(db, signedIn, asked, cancel);
        }
        if (body.Email is not null || body.Password is not null)
        {
            if (body.Scope is not null || body.App is not null || body.Expires is not null)
                throw Problem.BadRequest("Scope, app and expires are for tokens that are asked for with a token.");
            var user = await SignIn.CheckAsync(body.Email, body.Password, body.Name ?? CliSignIn.DefaultName, http, db, cancel);
            return await SignInAsync(db, user.Id, body.Name ?? CliSignIn.DefaultName, cancel);
        }
        if (Caller.Find(http) is not { } caller)
            throw http.Request.Headers.Authorization.Count == 0 ? Problem.BadRequest("Give email and password.")
                : new Problem(401, "This needs a valid token, or email and password.");
        caller.Require(Scope.Write);
        Session.RequireSameOrigin(http);
        if (caller.App is not null)
            throw Problem.Forbidden("This token is for one app alone.");
        return await MakeAsync(body, caller, http, db, cancel);
    }

    public static bool IsName(string name) => name.Length is > 0 and <= 100 && !name.Any(c => char.IsControl(c) || char.IsSurrogate(c));

    private static async Task<Created<IssuedToken>> MakeAsync(
        NewToken body, Caller caller, HttpContext http, NpgsqlDataSource db, CancellationToken cancel)
    {
        var name = body.Name ?? throw Problem.BadRequest("Give a name, by which you know the token again.");
        if (!Enum.TryParse<Scope>(body.Scope, ignoreCase: true, out var scope) || int.TryParse(body.Scope, out _))
            throw Problem.BadRequest("scope: give read, deploy, write, admin or metrics.");
        caller.Require(scope);
        if (scope == Scope.Metrics)
            caller.Require(Scope.Admin);
        if (scope is Scope.Admin or Scope.Metrics && body.App is not null)
            throw Problem.BadRequest("scope: a token for one app has read, deploy or write.");
        DateTime? expires = (body.Expires ?? DefaultExpiry) switch
        {
            "never" => null,
            var text when Quantities.TryParseSeconds(text, out var seconds) && seconds > 0 => DateTime.UtcNow.AddSeconds(seconds),
            _ => throw Problem.BadRequest("expires: give a time such as 12h or 90d, 365d at most, or never."),
        };
        // Any app that one may see will do: what the token may do there, the user's role says each time.
        var app = body.App is null ? null : await AppRow.FindAsync(db, caller with { Needs = AppRole.View }, body.App, cancel);
        if (await db.FirstAsync<int>("select count(*) from tokens where user_id = @Id and kind = 'token'", new { caller.Id }, cancel) >= MaxTokens)
            throw Problem.Conflict($"A user has {MaxTokens} tokens at most; revoke some.");
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var issued = await IssueAsync(connection, caller.Id, name, "token", scope, app, expires, null, cancel);
        await Audit.AddAsync(connection, new AuditRow
        {
            UserId = caller.Id, UserEmail = caller.Email, Token = caller.TokenName, Operation = "POST /v1/tokens", AppUid = app?.Uid,
            Target = $"/v1/tokens/{issued.Value!.Id}", Client = ClientAddress.Of(http).ToString(), Status = 201, Detail = name,
        }, cancel);
        await transaction.CommitAsync(cancel);
        return issued;
    }

    private static async Task<Created<IssuedToken>> SignInAsync(NpgsqlDataSource db, long user, string name, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        return await IssueAsync(connection, user, name, "sign-in", null, null, DateTime.UtcNow + SignInLasts, SignInLasts, cancel);
    }

    private static async Task<Created<IssuedToken>> IssueAsync(
        NpgsqlConnection connection, long user, string name, string kind, Scope? scope, AppRow? app, DateTime? expires, TimeSpan? renewed,
        CancellationToken cancel)
    {
        var token = Secrets.NewToken();
        var id = await connection.FirstAsync<long>("""
            insert into tokens (user_id, name, hash, kind, scope, app_uid, expires_at, renewed)
            values (@user, @name, @hash, @kind, @scope, @app, @expires, @renewed) returning id
            """, new { user, name, hash = Secrets.HashToken(token), kind, scope = Word(scope), app = app?.Uid, expires, renewed }, cancel);
        return TypedResults.Created((string?)null, new IssuedToken(token, name)
        {
            Id = id, Scope = Word(scope) ?? "all", App = app?.Name, ExpiresAt = expires,
        });
    }

    internal const string Listed = """
        select t.id, t.name, t.kind, coalesce(t.scope, 'all') as scope, a.name as app, t.created_at, t.last_used_at, t.expires_at
        from tokens t left join apps a on a.uid = t.app_uid
        where t.user_id = @Id and t.id > @after and (t.expires_at is null or t.expires_at > now()) order by t.id limit @Rows
        """;

    private static async Task<Ok<Page<Token>>> ListAsync([AsParameters] Paging paging, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var tokens = await db.ListAsync<ShownToken>(Listed, new { caller.Id, after = paging.Number ?? 0, paging.Rows }, cancel);
        var next = paging.Cut(tokens, t => $"{t.Id}");
        return TypedResults.Ok(new Page<Token>([.. tokens.Select(t => new Token(
            t.Id, t.Name, t.Kind, t.Scope, t.App, t.CreatedAt, t.LastUsedAt, t.ExpiresAt, t.Id == caller.Token))], next));
    }

    private static async Task<NoContent> RevokeAsync(long id, Caller caller, NpgsqlDataSource db, CancellationToken cancel)
    {
        var gone = await db.FirstAsync<string>("delete from tokens where id = @id and user_id = @user returning name",
            new { id, user = caller.Id }, cancel);
        if (caller.Audit is { } entry)
            entry.Detail = gone ?? "";
        return gone is not null ? TypedResults.NoContent() : throw Problem.NotFound($"You have no token {id}.");
    }

    private static string? Word(Scope? scope) => scope?.ToString().ToLowerInvariant();

    private sealed record ShownToken
    {
        public long Id { get; init; }
        public string Name { get; init; } = "";
        public string Kind { get; init; } = "";
        public string Scope { get; init; } = "";
        public string? App { get; init; }
        public DateTime CreatedAt { get; init; }
        public DateTime? LastUsedAt { get; init; }
        public DateTime? ExpiresAt { get; init; }
    }
}

/// <summary>Marks an endpoint that is open to all, and looks at a token where one is sent.</summary>
internal sealed class OptionalToken;
