using System.Text.Json;

namespace Appoxy.Tests.Acceptance;

[Collection(ThirdLane.Name)]
public sealed class OpenApiTests(Install install)
{
    /// <summary>What anybody may ask without a token.</summary>
    private static readonly string[] Open = ["GET /healthz", "GET /readyz", "POST /v1/tokens", "POST /v1/session", "POST /v1/invitations/accept",
        "POST /v1/hooks/{app}/{id}"];

    [Fact]
    public async Task Each_operation_is_described_with_its_token_its_faults_and_an_id_of_its_own()
    {
        var operations = await ApiOperation.ReadAsync(install);
        Assert.True(operations.Count > 40, $"{operations.Count} operations");
        Assert.Equal(operations.Count, operations.Select(o => o.Json.GetProperty("operationId").GetString()).Distinct().Count());
        string[] unsaid = [.. operations.Where(o => !o.Json.TryGetProperty("summary", out _)).Select(o => o.ToString())];
        Assert.True(unsaid.Length == 0, $"without a summary: {string.Join(", ", unsaid)}");
        foreach (var operation in operations)
        {
            // Servers that join have no token yet either: theirs is another kind.
            Assert.True(operation.Secured || Open.Contains(operation.ToString()) || operation.Path.Contains("join", StringComparison.Ordinal)
                || operation.Path.Contains("oidc", StringComparison.Ordinal), $"{operation} needs no token");
            Assert.Equal(operation.Secured, operation.Faults.Contains(401) && operation.Faults.Contains(403));
            Assert.All(operation.Faults, status => Assert.True(
                operation.Json.GetProperty("responses").GetProperty($"{status}").GetProperty("content").TryGetProperty("application/problem+json", out _)));
        }
        Assert.Contains(operations, o => o.ToString() == "PATCH /v1/apps/{app}/scale");
    }
}

/// <summary>One operation of the OpenAPI document.</summary>
internal sealed record ApiOperation(string Method, string Path, JsonElement Json, JsonElement Document)
{
    public bool Secured => Json.TryGetProperty("security", out var security) && security.GetArrayLength() > 0;

    /// <summary>The statuses from 400 that it says it answers.</summary>
    public int[] Faults => [.. Json.GetProperty("responses").EnumerateObject().Select(r => int.TryParse(r.Name, out var s) ? s : 0).Where(s => s >= 400)];

    public static async Task<List<ApiOperation>> ReadAsync(Install install)
    {
        using var http = LocalHttp.For($"http://127.0.0.1:{install.ConsolePort}/", TimeSpan.FromSeconds(30));
        var document = JsonDocument.Parse(await http.GetStringAsync("openapi/v1.json")).RootElement;
        return [.. from path in document.GetProperty("paths").EnumerateObject() from verb in path.Value.EnumerateObject()
            select new ApiOperation(verb.Name.ToUpperInvariant(), path.Name, verb.Value, document)];
    }

    public override string ToString() => $"{Method} {Path}";
}
