using System.Diagnostics;
using System.Globalization;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Xunit.Abstractions;

namespace Appoxy.Tests.Acceptance;

/// <summary>
/// Sends what no client would to each operation of the OpenAPI document. Each call follows from the seed and its number alone, so that
/// one that fails can be sent again. <c>APPOXY_TEST_FUZZ</c> is how many, <c>APPOXY_TEST_FUZZ_SEED</c> the seed.
/// </summary>
[Collection(ThirdLane.Name)]
public sealed class ApiFuzzTests(Install install, ITestOutputHelper output)
{
    private const string Live = "fuzz-live";
    private const int Width = 6;
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);

    /// <summary>These wait for containers to start and stop, which on a busy machine may take longer than an answer.</summary>
    private static readonly TimeSpan DroidLimit = TimeSpan.FromSeconds(100);

    private static readonly int Calls = Setting("APPOXY_TEST_FUZZ", 1000);
    private static readonly int Seed = Setting("APPOXY_TEST_FUZZ_SEED", 20261125);

    [Fact]
    public async Task Nonsense_gets_a_problem_from_each_operation_and_never_a_fault_or_a_hang()
    {
        var operations = await ApiOperation.ReadAsync(install);
        var member = await MemberAsync();
        await install.MustAsync("apps", "create", Live);
        await install.MustAsync("deploy", Live, Path.Combine(install.Repository, "tests/apps/folder"));
        await install.MustAsync("apps", "create", "fuzz-a");
        using var asMember = install.Api();
        asMember.DefaultRequestHeaders.Authorization = new("Bearer", member);
        (await asMember.PostAsync("v1/apps", new StringContent("""{"name":"fuzz-b"}""", Encoding.UTF8, "application/json"))).EnsureSuccessStatusCode();
        var routerd = install.ServicePid("routerd");

        using var http = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false, UseCookies = false, UseProxy = false,
            RequestHeaderEncodingSelector = (_, _) => Encoding.Latin1 });
        http.Timeout = Timeout.InfiniteTimeSpan;
        var watch = Stopwatch.StartNew();
        var statuses = new SortedDictionary<int, int>();
        var faults = new List<string>();
        var next = -1;
        await Task.WhenAll(Enumerable.Range(0, Width).Select(async _ =>
        {
            while (Interlocked.Increment(ref next) is var number && number < Calls)
            {
                var call = FuzzedCall.Make(operations, new Random(Seed + number), [install.Token, member, member, install.Token, install.Token]);
                var (status, fault) = await SendAsync(http, call);
                lock (faults)
                {
                    statuses[status] = statuses.GetValueOrDefault(status) + 1;
                    if (fault is not null)
                        faults.Add($"call {number} of seed {Seed}: {call}: {fault}");
                }
            }
        }));
        output.WriteLine($"{Calls} calls of {operations.Count} operations in {watch.Elapsed.TotalSeconds:0.0} s: "
            + string.Join(", ", statuses.Select(s => $"{s.Value} × {s.Key}")));
        foreach (var app in new[] { Live, "fuzz-a", "fuzz-b" })
            await install.AppoxyAsync("apps", "destroy", app, "--confirm", app);
        Assert.True(faults.Count == 0, $"{faults.Count} of {Calls}:\n{string.Join('\n', faults.OrderByDescending(f => f.Contains(": 5", StringComparison.Ordinal)).Take(25))}");
        Assert.Equal(routerd, install.ServicePid("routerd"));
        Assert.True(statuses.GetValueOrDefault(200) > 0 && statuses.GetValueOrDefault(201) > 0, "not one call made sense");
    }

    /// <summary>The status, and what is wrong with the answer; null if nothing.</summary>
    private async Task<(int Status, string? Fault)> SendAsync(HttpClient http, FuzzedCall call)
    {
        var limit = call.WaitsForDroids ? DroidLimit : Limit;
        using var bound = new CancellationTokenSource(limit);
        try
        {
            using var request = call.Request($"http://127.0.0.1:{install.ConsolePort}");
            using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, bound.Token);
            var status = (int)response.StatusCode;
            if (status is >= 500 or 0)
                return (status, $"{status} {await response.Content.ReadAsStringAsync(bound.Token)}");
            if (status < 400)
                return (status, call.Follows ? null : await DrainAsync(response, bound.Token));
            var body = await response.Content.ReadAsStringAsync(bound.Token);
            // What is no HTTP, or too long for any address, is refused before it is known which operation is meant.
            return (status, call.IsBrokenHttp && body.Length == 0 ? null : ProblemFault(response, body, call.Method == "HEAD"));
        }
        catch (OperationCanceledException)
        {
            return (0, $"no answer within {limit}");
        }
        catch (HttpRequestException e)
        {
            return (0, call.IsBrokenHttp ? null : $"broke off: {e.Message}");
        }
    }

    private static async Task<string?> DrainAsync(HttpResponseMessage response, CancellationToken cancel)
    {
        await response.Content.CopyToAsync(Stream.Null, cancel);
        return null;
    }

    private static string? ProblemFault(HttpResponseMessage response, string body, bool head)
    {
        var status = (int)response.StatusCode;
        if (response.Content.Headers.ContentType?.MediaType != "application/problem+json")
            return $"{status} as {response.Content.Headers.ContentType}: {body}";
        if (head)
            return null;
        try
        {
            var problem = JsonDocument.Parse(body).RootElement;
            return problem.GetProperty("status").GetInt32() == status && problem.GetProperty("title").GetString() is { Length: > 0 }
                && problem.GetProperty("detail").GetString() is { Length: > 0 } ? null : $"a problem that lacks something: {body}";
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            return $"{status} without a problem's members: {body}";
        }
    }

    private async Task<string> MemberAsync()
    {
        var token = "apx_" + Convert.ToHexString(RandomNumberGenerator.GetBytes(20));
        var hash = Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(token)));
        await install.SqlAsync($"""
            with made as (insert into users (email, password_hash, role) values ('fuzz-{Path.GetRandomFileName()}@example.org', '', 'member') returning id)
            insert into tokens (user_id, name, hash) select id, 'fuzz', '\x{hash}' from made
            """);
        return token;
    }

    private static int Setting(string name, int otherwise) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : otherwise;
}
