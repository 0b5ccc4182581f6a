using System.Globalization;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Appoxy.Tests.Acceptance;

/// <summary>A call of the API that may make sense, and mostly has something wrong with it.</summary>
internal sealed class FuzzedCall
{
    private static readonly string[] Nasty =
    [
        "", " ", "nope", "0", "-1", "1", "2147483648", "-9223372036854775809", "1e999", "NaN", "null", "true", "[]", "{}", "a b", "a/b", "..", "../..",
        ".", "'; drop table apps; --", "\" or 1=1", "$(id)", "`id`", "%s%n", "{{ 7*7 }}", "${jndi:ldap://x}", "<script>", "\u0000", "\u0001\u001b[31m", "\r\nX: y",
        "\u202e\u200b", "ünïcödé.test", "日本語", "😀😀", "\ud800", "a\u0301", "xn--a", "*.", "*.*", "a..b", "-a-", "1.2.3.4", "::1", "host:80", "0x10", "1_000",
        "99999999999999999999999999d", "256m", "10m", "on", "off", "auto", "none", "ext::sh -c id", "--upload-pack=id", "file:///etc/passwd", "http://127.0.0.1:1/",
    ];

    private static readonly string[] Apps = ["fuzz-live", "fuzz-a", "fuzz-b", "fuzz-new-1", "fuzz-new-2"];
    private static readonly string[] Methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "GARBAGE"];
    private static readonly string?[] Types =
        [null, "", "text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data", "application/json; charset=utf-16",
        "application/json; charset=nope", "application/problem+json", "json", "*/*", "application/octet-stream"];

    /// <summary>What is no JSON, or JSON of the worst kind.</summary>
    private static readonly string[] Bodies =
    [
        "", "{", "}", "null", "true", "0", "-0", "1e400", "\"x\"", "[]", "[{}]", "{}", "{\"\":1}", "{\"a\":}", "{'a':1}", "{\"a\":1,}", "nul", "\u0000", "\ufeff{}",
        "{\"name\":\"fuzz-new-1\",\"name\":\"fuzz-new-2\"}", "// x\n{}", "{\"__proto__\":{}}", "{\"$type\":\"System.Object\"}", "\"\\ud800\"", "{\"name\":\"\\u0000\"}",
    ];

    public required string Method { get; init; }
    public required string Path { get; init; }
    private byte[]? Body { get; set; }
    private string? ContentType { get; set; } = "application/json";
    private List<(string Name, string Value)> Headers { get; } = [];

    /// <summary>The operation that it was made from.</summary>
    private ApiOperation Operation { get; init; } = null!;

    /// <summary>Whether it may be refused as HTTP already.</summary>
    public bool IsBrokenHttp => Path.Length > 4000 || Path.Contains("%00", StringComparison.Ordinal) || Path.Contains("%zz", StringComparison.Ordinal)
        || Headers.Any(h => h.Value.Length > 4000 || h.Value.Any(c => c > '\x7f')) || Body?.Length > 1 << 20 || Method == "TRACE";

    public bool Follows => Path.Contains("follow=", StringComparison.Ordinal);

    /// <summary>Whether the operation waits for containers.</summary>
    public bool WaitsForDroids => Operation.Path.StartsWith("/v1/apps/{app}", StringComparison.Ordinal)
        && (Operation.Method is "PATCH" || Operation.Path.Split('/')[^1] is "start" or "stop" or "restart" or "snooze" or "wake");

    public static FuzzedCall Make(IReadOnlyList<ApiOperation> operations, Random random, string[] tokens)
    {
        var operation = operations[random.Next(operations.Count)];
        var method = random.Next(20) == 0 ? Methods[random.Next(Methods.Length)] : operation.Method;
        var call = new FuzzedCall
        {
            // The apps that the calls are about stay, whatever verb is tried on them.
            Method = method, Operation = operation, Path = PathOf(operation, random, method is "DELETE" || !Harmless(operation)) + QueryOf(operation, random),
        };
        if (method is not ("GET" or "HEAD" or "TRACE") && (operation.Json.TryGetProperty("requestBody", out _) || random.Next(10) == 0))
            call.AddBody(random);
        call.AddHeaders(random, tokens);
        return call;
    }

    public HttpRequestMessage Request(string origin)
    {
        var request = new HttpRequestMessage(new HttpMethod(Method),
            new Uri(origin + Path, new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }));
        if (Body is not null)
        {
            request.Content = new ByteArrayContent(Body);
            if (ContentType is not null)
                request.Content.Headers.TryAddWithoutValidation("Content-Type", ContentType);
        }
        foreach (var (name, value) in Headers)
            request.Headers.TryAddWithoutValidation(name, value);
        return request;
    }

    public override string ToString()
    {
        var body = Body is null ? "" : $" {ContentType} {Encoding.UTF8.GetString(Body.AsSpan(0, Math.Min(Body.Length, 300)))}";
        var headers = string.Join(' ', Headers.Where(h => h.Name != "Authorization").Select(h => $"{h.Name}: {h.Value[..Math.Min(40, h.Value.Length)]};"));
        return $"{Method} {Path[..Math.Min(200, Path.Length)]} {headers}{body}";
    }

    /// <summary>Operations on servers, users and the like of the install, which its other tests need, only meet names that are not there.</summary>
    private static bool Harmless(ApiOperation operation) => operation.Method == "GET" || operation.Path.StartsWith("/v1/apps/{app}/", StringComparison.Ordinal)
        || operation.ToString() is "PATCH /v1/apps/{app}" or "POST /v1/templates/{name}/preview" or "POST /v1/templates/{name}/activate";

    private static string PathOf(ApiOperation operation, Random random, bool harmful)
    {
        var path = string.Join('/', operation.Path.Split('/').Select(part => part is not ['{', .. var name, '}'] ? part
            : random.Next(6) == 0 ? Escaped(Odd(random), random)
            : name switch
            {
                "app" when harmful && operation.Path == "/v1/apps/{app}" => $"fuzz-new-{random.Next(10)}",
                "app" => Apps[random.Next(Apps.Length)],
                "number" => $"{random.Next(3)}",
                "host" => random.Next(2) == 0 ? "fuzz-live.localhost" : $"h{random.Next(9)}.fuzz.test",
                "name" when operation.Path.StartsWith("/v1/templates", StringComparison.Ordinal) => random.Next(2) == 0 ? "global.conf.sbn" : "local.conf.sbn",
                "name" when !harmful && operation.Path.StartsWith("/v1/servers", StringComparison.Ordinal) => "ds1",
                "volume" => "data",
                _ => harmful ? "9" + random.Next(100_000_000, 999_999_999) : "1",
            }));
        return random.Next(40) switch
        {
            0 => path + "/",
            1 => path.Replace("/v1/", "//v1/", StringComparison.Ordinal),
            2 => path + "/" + Escaped(Odd(random), random),
            3 => path + "/" + new string('x', 9000),
            4 => path.Replace("/v1/", "/v2/", StringComparison.Ordinal),
            5 => path + "%zz",
            6 => path.ToUpperInvariant(),
            _ => path,
        };
    }

    private static string QueryOf(ApiOperation operation, Random random)
    {
        var query = new List<string>();
        if (operation.Json.TryGetProperty("parameters", out var parameters))
            foreach (var parameter in parameters.EnumerateArray().Where(p => p.GetProperty("in").GetString() == "query"))
            {
                if (random.Next(3) == 0)
                    continue;
                var name = parameter.GetProperty("name").GetString()!;
                var value = random.Next(2) == 0 ? Escaped(Odd(random), random)
                    : name switch { "follow" => "true", "limit" => $"{random.Next(1, 200)}", "tail" => "10", _ => "10m" };
                query.Add($"{name}={value}");
                if (random.Next(6) == 0)
                    query.Add($"{name}={Escaped(Odd(random), random)}");
            }
        if (random.Next(10) == 0)
            query.Add($"{Escaped(Odd(random), random)}={Escaped(Odd(random), random)}");
        return query.Count == 0 ? random.Next(30) == 0 ? "?" : "" : "?" + string.Join('&', query);
    }

    private static string Escaped(string text, Random random) =>
        random.Next(8) == 0 ? new string([.. text.Where(c => c is > ' ' and < '\x7f' and not ('#' or '?'))]) : Uri.EscapeDataString(text);

    /// <summary>A text that is not what is expected.</summary>
    private static string Odd(Random random) => random.Next(12) switch
    {
        0 => new string((char)random.Next('a', 'z'), random.Next(1, 3000)),
        1 => string.Concat(Enumerable.Range(0, random.Next(1, 40)).Select(_ => (char)random.Next(1, 0xd7ff))),
        2 => random.NextInt64(long.MinValue, long.MaxValue).ToString(CultureInfo.InvariantCulture),
        _ => Nasty[random.Next(Nasty.Length)],
    };

    private void AddBody(Random random)
    {
        var schema = Operation.Json.TryGetProperty("requestBody", out var body) && body.TryGetProperty("content", out var content)
            ? content.EnumerateObject().First() : default;
        ContentType = random.Next(12) == 0 ? Types[random.Next(Types.Length)] : schema.Value.ValueKind == JsonValueKind.Undefined ? "application/json" : schema.Name;
        Body = random.Next(10) switch
        {
            0 => Encoding.UTF8.GetBytes(Bodies[random.Next(Bodies.Length)]),
            1 => random.Next(8) switch
            {
                0 => [0xff, 0xfe, .. "{}"u8, 0xc3, 0x28],
                1 => Encoding.UTF8.GetBytes(new string('[', 5000)),
                2 => Encoding.UTF8.GetBytes($"{{\"name\":{new string('{', 100)}"),
                3 => Encoding.UTF8.GetBytes($"{{\"name\":\"{new string('x', (1 << 20) + 10)}\"}}"),
                4 => Encoding.UTF8.GetBytes("{" + string.Join(',', Enumerable.Range(0, 3000).Select(i => $"\"K{i}\":\"v\"")) + "}"),
                5 => Encoding.Unicode.GetBytes("{\"name\":\"fuzz-new-1\"}"),
                _ => Encoding.UTF8.GetBytes(new string(' ', random.Next(1, 5000))),
            },
            _ when schema.Value.ValueKind == JsonValueKind.Undefined || schema.Name != "application/json" => Encoding.UTF8.GetBytes(Odd(random)),
            _ => Encoding.UTF8.GetBytes(JsonOf(schema.Value.GetProperty("schema"), random)),
        };
    }

    /// <summary>A body by the operation's schema, or by its example, in which up to three values are replaced.</summary>
    private string JsonOf(JsonElement schema, Random random)
    {
        var value = Valid(schema, random, 0);
        if (value is JsonObject named && named["name"] is not null)
            named["name"] = Operation.Path == "/v1/apps" ? $"fuzz-new-{random.Next(10)}" : "data";
        var mutations = random.Next(4);
        for (var i = 0; i < mutations && value is JsonObject members; i++)
            Mutate(members, random);
        return value?.ToJsonString() ?? "null";
    }

    private static void Mutate(JsonObject members, Random random)
    {
        var keys = members.Select(m => m.Key).Append(Odd(random)).ToArray();
        var key = keys[random.Next(keys.Length)];
        if (members[key] is JsonObject inner && random.Next(3) > 0)
        {
            Mutate(inner, random);
            return;
        }
        if (random.Next(6) == 0)
        {
            members.Remove(key);
            return;
        }
        members[key] = random.Next(12) switch
        {
            0 => null,
            1 => JsonValue.Create(random.Next(-5, 100_000)),
            2 => JsonValue.Create(random.NextInt64(long.MinValue, long.MaxValue)),
            3 => JsonValue.Create(random.NextDouble() * 1e300),
            4 => JsonValue.Create(true),
            5 => new JsonArray(1, "a", null),
            6 => new JsonObject { ["a"] = new JsonObject { ["b"] = 1 } },
            7 => JsonValue.Create(new string('y', random.Next(1, 70_000))),
            _ => JsonValue.Create(Odd(random)),
        };
    }

    private JsonNode? Valid(JsonElement schema, Random random, int depth)
    {
        if (schema.TryGetProperty("$ref", out var reference))
            return Valid(Operation.Document.GetProperty("components").GetProperty("schemas").GetProperty(reference.GetString()!.Split('/')[^1]), random, depth);
        if (schema.TryGetProperty("examples", out var examples) && random.Next(3) > 0)
            return JsonNode.Parse(examples[0].GetRawText());
        if (schema.TryGetProperty("oneOf", out var choices))
            return Valid(choices[choices.GetArrayLength() - 1], random, depth);
        var type = schema.TryGetProperty("type", out var types) ? types.ValueKind == JsonValueKind.Array ? types[types.GetArrayLength() - 1].GetString() : types.GetString() : null;
        switch (type)
        {
            case "object" when schema.TryGetProperty("properties", out var properties) && depth < 6:
                var members = new JsonObject();
                foreach (var property in properties.EnumerateObject().Where(_ => random.Next(3) > 0))
                    members[property.Name] = Valid(property.Value, random, depth + 1);
                return members;
            case "object":
                return new JsonObject { ["A" + random.Next(5)] = schema.TryGetProperty("additionalProperties", out var of) && of.ValueKind == JsonValueKind.Object
                    ? Valid(of, random, depth + 1) : JsonValue.Create(Odd(random)) };
            case "array":
                return new JsonArray(schema.TryGetProperty("items", out var items) && depth < 6 ? Valid(items, random, depth + 1) : null);
            case "integer" or "number":
                return JsonValue.Create(random.Next(0, 4));
            case "boolean":
                return JsonValue.Create(random.Next(2) == 0);
            default:
                return JsonValue.Create(random.Next(3) == 0 ? $"h{random.Next(9)}.fuzz.test" : Odd(random));
        }
    }

    private void AddHeaders(Random random, string[] tokens)
    {
        var authorization = random.Next(25) switch
        {
            0 => null,
            1 => "Bearer ",
            2 => "Bearer apx_" + new string('x', random.Next(1, 500)),
            3 => "Basic " + Convert.ToBase64String(Encoding.UTF8.GetBytes("a:" + tokens[0])),
            4 => "bearer apx_\u00e9",
            _ => "Bearer " + tokens[random.Next(tokens.Length)],
        };
        if (authorization is not null)
            Headers.Add(("Authorization", authorization));
        if (random.Next(10) == 0)
            Headers.Add(("Accept", random.Next(2) == 0 ? "text/html" : "application/x-nothing;q=9"));
        if (random.Next(8) == 0)
            Headers.Add(("Idempotency-Key", random.Next(3) == 0 ? Printable(Odd(random)) : $"key-{random.Next(20)}"));
        if (random.Next(8) == 0)
            Headers.Add((random.Next(2) == 0 ? "If-Match" : "If-None-Match", random.Next(3) switch { 0 => "*", 1 => "\"1\"", _ => Printable(Odd(random)) }));
        if (random.Next(30) == 0)
            Headers.Add(("X-Odd", new string('z', random.Next(1, 40_000))));
        if (random.Next(30) == 0)
            Headers.Add(("Expect", "nothing"));
    }

    private static string Printable(string text) => new([.. text.Where(c => c is >= ' ' and < '\x7f')]);
}
