using System.Net.Mime;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Appoxy.Routerd.Users;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;

namespace Appoxy.Routerd;

/// <summary>
/// The API's own description at <c>/openapi/v1.json</c>: what the endpoints' signatures and doc comments tell, and here what they do
/// not: security, faults, streams and examples. Left out are git's smart HTTP, <c>/metrics</c> and the console's pages.
/// </summary>
internal static class OpenApi
{
    private const string Token = "token";
    private const string ProblemName = "Problem";
    private const string Intro = """
        Everything that `appoxy`, the CLI, does. A token comes from `POST /v1/tokens` or `appoxy login`, and is sent as
        `Authorization: Bearer apx_…`. Whatever goes wrong is answered as problem+json (RFC 9457), whose `detail` is one line for
        people. An app that a caller may not see is answered as one that is not there: 404.
        """;

    /// <summary>Keys are as users write paths: method, and path with its parameters.</summary>
    private static readonly Dictionary<string, string> Summaries = new()
    {
        ["GET /healthz"] = "Whether routerd serves",
        ["GET /readyz"] = "Whether routerd can do what it is asked: Postgres and Redis answer",
        ["POST /v1/tokens"] = "Exchanges a password for a token",
        ["POST /v1/hooks/{app}/{id}"] = "Takes a push from a git host; the body is signed with the webhook's secret",
        ["GET /v1/apps"] = "The apps that the caller may see, by name",
        ["POST /v1/apps"] = "Makes an app, which then waits for its first deployment",
        ["GET /v1/apps/{app}"] = "An app",
        ["PATCH /v1/apps/{app}"] = "Changes settings of an app; those left out stay",
        ["DELETE /v1/apps/{app}"] = "Destroys an app with its containers, deployments, domains and volumes",
        ["GET /v1/apps/{app}/env"] = "An app's environment variables",
        ["PATCH /v1/apps/{app}/env"] = "Sets variables, and unsets those given as null; the app's containers are replaced",
        ["GET /v1/apps/{app}/scale"] = "How many of each process type are wanted, and run",
        ["PATCH /v1/apps/{app}/scale"] = "Changes how many of a process type run, and waits for a while until it is so",
        ["GET /v1/apps/{app}/deployments"] = "An app's deployments, newest first",
        ["POST /v1/apps/{app}/deployments"] = "Begins a deployment from git, an upload or an image",
        ["GET /v1/apps/{app}/deployments/{number}"] = "A deployment",
        ["GET /v1/apps/{app}/deployments/{number}/log"] = "A deployment's log; followed, it ends when the deployment has",
        ["POST /v1/apps/{app}/deployments/{number}/cancel"] = "Ends a deployment that is under way",
        ["POST /v1/apps/{app}/rollback"] = "Lets an earlier version's image serve again",
        ["POST /v1/apps/{app}/uploads"] = "Takes a folder as tar.gz, to deploy it by its id",
        ["GET /v1/apps/{app}/deploy-key"] = "The key by which builds read private repositories over ssh",
        ["POST /v1/apps/{app}/deploy-key"] = "Makes that key, if there is none yet",
        ["DELETE /v1/apps/{app}/deploy-key"] = "Removes that key",
        ["GET /v1/doctor"] = "What is wrong, and what to do about it",
        ["GET /v1/secrets/keys"] = "The keys that secrets are encrypted with, and how much each encrypts",
        ["POST /v1/secrets/keys"] = "Makes a new key; all secrets are encrypted anew with it",
        ["DELETE /v1/secrets/keys/{id}"] = "Removes a key that encrypts nothing any more",
        ["GET /v1/apps/{app}/git-auth"] = "The git hosts for which a password is kept",
        ["PUT /v1/apps/{app}/git-auth/{host}"] = "Keeps a password for a git host",
        ["DELETE /v1/apps/{app}/git-auth/{host}"] = "Forgets the password for a git host",
        ["GET /v1/apps/{app}/webhooks"] = "An app's webhooks",
        ["POST /v1/apps/{app}/webhooks"] = "Makes a webhook; its secret is shown this once",
        ["DELETE /v1/apps/{app}/webhooks/{id}"] = "Removes a webhook",
        ["GET /v1/apps/{app}/domains"] = "The hostnames that an app is served at",
        ["POST /v1/apps/{app}/domains"] = "Serves an app at a hostname; safe twice",
        ["DELETE /v1/apps/{app}/domains/{host}"] = "Serves an app at a hostname no more",
        ["GET /v1/apps/{app}/routing"] = "What happens to requests before they reach an app",
        ["PATCH /v1/apps/{app}/routing"] = "Changes what happens to requests before they reach an app",
        ["GET /v1/apps/{app}/volumes"] = "An app's volumes and how full they are",
        ["POST /v1/apps/{app}/volumes"] = "Gives an app a volume",
        ["DELETE /v1/apps/{app}/volumes/{volume}"] = "Removes a volume with all that it holds",
        ["GET /v1/apps/{app}/volumes/{volume}/files"] = "What a volume holds, as tar.gz",
        ["PUT /v1/apps/{app}/volumes/{volume}/files"] = "Fills a volume from a tar.gz, in place of what it held",
        ["GET /v1/droids"] = "The state of all apps that the caller may see",
        ["GET /v1/apps/{app}/droids"] = "The state of an app and its processes",
        ["GET /v1/apps/{app}/logs"] = "What an app's processes print, and its requests",
        ["POST /v1/apps/{app}/start"] = "Starts an app that was stopped",
        ["POST /v1/apps/{app}/stop"] = "Stops an app until it is started again; visits do not wake it",
        ["POST /v1/apps/{app}/restart"] = "Starts an app's containers anew",
        ["POST /v1/apps/{app}/snooze"] = "Puts an app to sleep now; the next visit wakes it",
        ["POST /v1/apps/{app}/wake"] = "Wakes an app and waits until it is ready",
        ["GET /v1/servers"] = "The droid-servers and how they are",
        ["GET /v1/servers/{name}"] = "A droid-server",
        ["GET /v1/servers/{name}/metrics"] = "What a droid-server counts, as Prometheus reads it; a token with the scope metrics will do",
        ["DELETE /v1/servers/{name}"] = "Removes a droid-server that has no apps, and refuses its certificates",
        ["POST /v1/servers/join-tokens"] = "Makes a token by which a new machine joins, once",
        ["POST /v1/servers/{name}/revoke"] = "Refuses all certificates of a machine from now on; it has to join anew",
        ["PATCH /v1/servers/{name}"] = "Labels a droid-server; an empty value removes a label",
        ["POST /v1/servers/{name}/drain"] = "Places nothing more on a droid-server, and moves its apps elsewhere",
        ["POST /v1/servers/{name}/undrain"] = "Lets apps be placed on a droid-server again",
        ["POST /v1/servers/{name}/prune"] = "Removes what builds left on a droid-server and nothing uses",
        ["POST /v1/servers/rebalance"] = "Moves a few apps from full droid-servers to emptier ones",
        ["POST /v1/apps/{app}/move"] = "Moves an app to another droid-server; while it is on its way, the app has a move",
        ["GET /v1/routes/{host}"] = "Why a host goes where it goes, step by step",
    };

    /// <summary>What is no JSON, by operation: the type of the body that is taken, and of the one that is answered.</summary>
    private static readonly Dictionary<string, (string? Takes, string? Answers)> Streams = new()
    {
        ["POST /v1/hooks/{app}/{id}"] = (MediaTypeNames.Application.Json, null),
        ["POST /v1/apps/{app}/uploads"] = (MediaTypeNames.Application.GZip, null),
        ["PUT /v1/apps/{app}/volumes/{volume}/files"] = (MediaTypeNames.Application.GZip, null),
        ["GET /v1/apps/{app}/volumes/{volume}/files"] = (null, MediaTypeNames.Application.GZip),
        ["GET /v1/servers/{name}/metrics"] = (null, MediaTypeNames.Text.Plain),
        ["GET /v1/apps/{app}/logs"] = (null, MediaTypeNames.Text.Plain),
        ["GET /v1/apps/{app}/deployments/{number}/log"] = (null, MediaTypeNames.Text.Plain),
    };

    private static readonly Dictionary<string, (string Description, string Example)> Parameters = new()
    {
        ["app"] = ("The app's name", "shop"),
        ["name"] = ("Its name", "ds1"),
        ["after"] = ("The next of the page before", "shop"),
        ["limit"] = ("How many to list at most", "50"),
        ["number"] = ("The deployment's number, from 1", "3"),
        ["host"] = ("A hostname, without port and path", "www.example.com"),
        ["email"] = ("The user's email address", "ada@example.com"),
        ["team"] = ("The team's name", "web"),
        ["volume"] = ("The volume's name", "data"),
        ["id"] = ("Its id", "k3mzq7"),
        ["follow"] = ("Whether to go on as more comes", "true"),
        ["tail"] = ("How many lines of the past", "100"),
        ["since"] = ("An age or a time", "10m"),
        ["email"] = ("A user's email address", "ada@example.com"),
        ["team"] = ("The team's name", "acme"),
        ["user"] = ("Only what this user did", "ada@example.com"),
        ["challenge"] = ("SHA-256, as base64url, of the verifier that a CLI will show for its token; left out where the browser itself is to be signed in",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ["port"] = ("Where that CLI listens on 127.0.0.1 of the browser's machine; left out where its user carries the code over", "40123"),
    };

    private static readonly Dictionary<Type, string> Examples = new()
    {
        [typeof(NewToken)] = """{"email":"ada@example.com","password":"correct horse battery staple"}""",
        [typeof(NewApp)] = """{"name":"shop","settings":{"memory":"256m"}}""",
        [typeof(AppSettings)] = """{"memory":"256m","snoozeAfter":"10m","health":"/healthz"}""",
        [typeof(NewDeployment)] = """{"source":{"git":{"url":"https://git.example.org/you/shop.git","ref":"main"}}}""",
        [typeof(NewRollback)] = """{"deployment":3}""",
        [typeof(NewUser)] = """{"email":"ada@example.com","role":"member"}""",
        [typeof(UserChange)] = """{"role":"admin"}""",
        [typeof(NewPassword)] = """{"current":"correct horse battery staple","password":"staple battery horse correct"}""",
        [typeof(NewSession)] = """{"email":"ada@example.com","password":"correct horse battery staple"}""",
        [typeof(AcceptedInvitation)] = """{"token":"inv_…","password":"correct horse battery staple"}""",
        [typeof(Collaborator)] = """{"role":"deploy"}""",
        [typeof(Team)] = """{"name":"acme"}""",
        [typeof(NewOwner)] = """{"team":"acme"}""",
        [typeof(NewJoinToken)] = """{"name":"ds2","expires":"10m"}""",
        [typeof(NewDomain)] = """{"hostname":"www.example.com"}""",
        [typeof(NewVolume)] = """{"name":"data","path":"/data"}""",
        [typeof(AppRouting)] = """{"forceHttps":"on","rateLimit":"10r/s,burst=50"}""",
        [typeof(NewWebhook)] = """{"url":"https://git.example.org/you/shop.git","branch":"main"}""",
        [typeof(NewGitAuth)] = """{"username":"deploy","password":"a token of the git host"}""",
        [typeof(TemplateText)] = """{"text":"{{ include 'global.conf.sbn' }}"}""",
        [typeof(TemplateActivation)] = """{"version":2}""",
        [typeof(Dictionary<string, string>)] = """{"GREETING":"hello"}""",
        [typeof(Dictionary<string, int>)] = """{"web":2,"worker":1}""",
    };

    private static readonly Dictionary<int, string> Faults = new()
    {
        [400] = "The request makes no sense; detail says what of it",
        [401] = "No valid token",
        [403] = "The token does not allow it",
        [404] = "There is no such thing, or the caller may not see it",
        [409] = "It can't be done as things stand",
        [412] = "It was changed since the answer whose ETag was sent as If-Match",
        [422] = "The Idempotency-Key was used for another request",
        [429] = "Too many calls; Retry-After says when to come again",
        [503] = "A part that this needs is away; try again later",
    };

    public static void Configure(OpenApiOptions options)
    {
        options.AddDocumentTransformer(DescribeAsync);
        options.AddOperationTransformer(DescribeAsync);
        options.AddSchemaTransformer((schema, context, _) =>
        {
            // Dictionaries have no schema of their own: what they are an example of depends on where they stand.
            if ((context.JsonPropertyInfo is null || !context.JsonTypeInfo.Type.IsGenericType)
                && Examples.TryGetValue(context.JsonTypeInfo.Type, out var example))
                schema.Examples = [JsonNode.Parse(example)!];
            return Task.CompletedTask;
        });
    }

    private static Task DescribeAsync(OpenApiDocument document, OpenApiDocumentTransformerContext context, CancellationToken cancel)
    {
        document.Info = new OpenApiInfo
        {
            Title = "Appoxy", Version = typeof(OpenApi).Assembly.GetName().Version?.ToString(3), Description = Intro.ReplaceLineEndings(" "),
        };
        // Where it was asked for, under whatever name.
        document.Servers = [new OpenApiServer { Url = "/" }];
        document.Components ??= new OpenApiComponents();
        document.Components.SecuritySchemes ??= new Dictionary<string, IOpenApiSecurityScheme>();
        document.Components.SecuritySchemes[Token] = new OpenApiSecurityScheme
        {
            Type = SecuritySchemeType.Http, Scheme = "bearer", BearerFormat = "apx_…", Description = "A token of POST /v1/tokens or appoxy login",
        };
        document.Components.Schemas ??= new Dictionary<string, IOpenApiSchema>();
        document.Components.Schemas[ProblemName] = new OpenApiSchema
        {
            Type = JsonSchemaType.Object,
            Description = "An answer that is not what was asked for, as RFC 9457 has it.",
            Required = new HashSet<string> { "title", "status", "detail" },
            Properties = new Dictionary<string, IOpenApiSchema>
            {
                ["type"] = new OpenApiSchema { Type = JsonSchemaType.String },
                ["title"] = new OpenApiSchema { Type = JsonSchemaType.String, Description = "What the status is called" },
                ["status"] = new OpenApiSchema { Type = JsonSchemaType.Integer, Description = "The HTTP status" },
                ["detail"] = new OpenApiSchema { Type = JsonSchemaType.String, Description = "One line for people" },
                ["requestId"] = new OpenApiSchema { Type = JsonSchemaType.String, Description = "By which the logs know this request; also the header X-Request-Id" },
            },
            Examples = [JsonNode.Parse("""{"type":"about:blank","title":"Not Found","status":404,"detail":"There is no app 'shop'.","requestId":"8f0c…"}""")!],
        };
        return Task.CompletedTask;
    }

    private static Task DescribeAsync(OpenApiOperation operation, OpenApiOperationTransformerContext context, CancellationToken cancel)
    {
        var (method, path) = (context.Description.HttpMethod ?? "GET", "/" + context.Description.RelativePath?.TrimEnd('/'));
        var key = $"{method} {path}";
        operation.OperationId = IdOf(method, path);
        operation.Tags = new HashSet<OpenApiTagReference> { new(TagOf(path), context.Document) };
        operation.Summary ??= Summaries.GetValueOrDefault(key);
        foreach (var parameter in operation.Parameters?.OfType<OpenApiParameter>() ?? [])
        {
            if (!Parameters.TryGetValue(parameter.Name ?? "", out var told))
                continue;
            parameter.Description ??= told.Description;
            parameter.Example ??= parameter.Schema?.Type?.HasFlag(JsonSchemaType.String) == true ? told.Example
                : int.TryParse(told.Example, out var count) ? count : bool.TryParse(told.Example, out var on) ? on : null;
        }
        if (IsTagged(path) && method == "PATCH")
            AddHeader(operation, "If-Match", "The ETag of the answer that the change goes by; without it, the change is made to whatever there is");
        if (method == "POST" && context.Description.ActionDescriptor.EndpointMetadata.OfType<IAuthorizeData>().Any() && !Streams.ContainsKey(key))
            AddHeader(operation, "Idempotency-Key", "Makes it safe to send the same once more within a day: the answer is that of the first time");
        if (Streams.TryGetValue(key, out var stream))
            Stream(operation, stream.Takes, stream.Answers);
        var metadata = context.Description.ActionDescriptor.EndpointMetadata;
        var secured = metadata.OfType<IAuthorizeData>().Any() && !metadata.OfType<IAllowAnonymous>().Any();
        if (metadata.OfType<Access>().LastOrDefault() is { Scope: { } scope })
            operation.Description ??= $"Needs a token with the scope {scope.ToString().ToLowerInvariant()} or more.";
        operation.Security = secured ? [new OpenApiSecurityRequirement { [new OpenApiSecuritySchemeReference(Token, context.Document)] = [] }] : [];
        foreach (var (status, words) in Faults)
        {
            if (!Happens(status, method, path, secured, operation))
                continue;
            operation.Responses ??= [];
            operation.Responses[$"{status}"] = Fault(words, context.Document);
        }
        return Task.CompletedTask;
    }

    /// <summary>Whether its answers have an ETag.</summary>
    private static bool IsTagged(string path) => path is "/v1/apps/{app}" or "/v1/apps/{app}/env" or "/v1/apps/{app}/scale" or "/v1/apps/{app}/routing";

    private static void AddHeader(OpenApiOperation operation, string name, string description) => (operation.Parameters ??= []).Add(
        new OpenApiParameter { Name = name, In = ParameterLocation.Header, Description = description, Schema = new OpenApiSchema { Type = JsonSchemaType.String } });

    private static bool Happens(int status, string method, string path, bool secured, OpenApiOperation operation) => status switch
    {
        400 => operation.Parameters is { Count: > 0 } || operation.RequestBody is not null,
        401 => secured || path is "/v1/tokens" or "/v1/hooks/{app}/{id}",
        403 => secured,
        404 => path.Contains('{', StringComparison.Ordinal),
        409 => secured && method != "GET",
        412 => IsTagged(path) && method == "PATCH",
        422 => secured && method == "POST" || operation.Responses?.ContainsKey("422") == true,
        _ => path.StartsWith("/v1/", StringComparison.Ordinal) || path == "/readyz",
    };

    private static OpenApiResponse Fault(string words, OpenApiDocument? document) => new()
    {
        Description = words,
        Content = new Dictionary<string, OpenApiMediaType>
        {
            [MediaTypeNames.Application.ProblemJson] = new() { Schema = new OpenApiSchemaReference(ProblemName, document) },
        },
    };

    private static void Stream(OpenApiOperation operation, string? takes, string? answers)
    {
        if (takes is not null)
            operation.RequestBody = new OpenApiRequestBody { Required = true, Content = Body(takes) };
        if (answers is not null)
            operation.Responses = new OpenApiResponses { ["200"] = new OpenApiResponse { Description = "OK", Content = Body(answers) } };

        static Dictionary<string, OpenApiMediaType> Body(string type) => new()
        {
            [type] = new() { Schema = type == MediaTypeNames.Application.Json ? new OpenApiSchema { Type = JsonSchemaType.Object }
                : new OpenApiSchema { Type = JsonSchemaType.String, Format = type == MediaTypeNames.Text.Plain ? null : "binary" } },
        };
    }

    /// <summary><c>GET /v1/apps/{app}/deployments/{number}</c> is <c>getAppDeployment</c>.</summary>
    private static string IdOf(string method, string path)
    {
        var id = new StringBuilder(method.ToLowerInvariant());
        var parts = path.Split('/', StringSplitOptions.RemoveEmptyEntries).Where(p => p != "v1").ToArray();
        for (var i = 0; i < parts.Length; i++)
        {
            if (parts[i][0] == '{')
                continue;
            var one = i + 1 < parts.Length && parts[i + 1][0] == '{' && parts[i].EndsWith('s') ? parts[i][..^1] : parts[i];
            foreach (var word in one.Split('-'))
                id.Append(char.ToUpperInvariant(word[0])).Append(word[1..]);
        }
        return id.ToString();
    }

    /// <summary>What an operation is about: <c>domains</c> of <c>/v1/apps/{app}/domains</c>.</summary>
    private static string TagOf(string path) => path.Split('/', StringSplitOptions.RemoveEmptyEntries) switch
    {
        ["v1", "apps", _, var about, ..] when about is not ("start" or "stop" or "restart" or "snooze" or "wake") => about,
        ["v1", var about, ..] => about,
        _ => "health",
    };
}
