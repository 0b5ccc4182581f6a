using System.Net.Http.Json;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;

namespace Appoxy.Cluster;

/// <summary>
/// The verb <c>join</c> of routerd and droidd: makes this machine's key, has it signed, and keeps both in a folder. The join token
/// comes on standard input; what the machine is from now on goes to standard output, as JSON.
/// </summary>
public static class Joining
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);

    /// <summary><c>join --folder DIR --role ROLE [--address IP]</c></summary>
    /// <returns>The exit code.</returns>
    public static async Task<int> RunAsync(string program, string[] args)
    {
        var options = new Dictionary<string, string>(StringComparer.Ordinal);
        for (var i = 1; i + 1 < args.Length; i += 2)
            options[args[i]] = args[i + 1];
        if (args.Length % 2 == 0 || !options.TryGetValue("--folder", out var folder) || !options.TryGetValue("--role", out var role)
            || options.Keys.Any(o => o is not ("--folder" or "--role" or "--address")))
            return await FailAsync($"usage: {program} join --folder DIR --role ROLE [--address IP] < TOKEN", 2);
        var text = await Console.In.ReadToEndAsync();
        if (!JoinToken.TryParse(text, out var token))
            return await FailAsync("this is no join token: make one by `appoxy servers join-token` on the control machine", 2);
        try
        {
            var joined = await JoinAsync(token, folder, role, options.GetValueOrDefault("--address"));
            Console.Out.WriteLine(JsonSerializer.Serialize(joined with { Control = token.Control, Certificate = "", Revoked = new([], "") }, ClusterJson.Default.Joined));
            return 0;
        }
        catch (Exception e) when (e is HttpRequestException or InvalidDataException or IOException or OperationCanceledException or JsonException)
        {
            return await FailAsync($"can't join {token.Control}: {(e.InnerException is AuthenticationException or IOException ? e.InnerException.Message : e.Message)}", 1);
        }

        async Task<int> FailAsync(string fault, int code)
        {
            await Console.Error.WriteLineAsync($"{program}: {fault}");
            return code;
        }
    }

    private static async Task<Joined> JoinAsync(JoinToken token, string folder, string role, string? address)
    {
        var caPem = await AuthorityAsync(token);
        using var ca = X509Certificate2.CreateFromPem(caPem);
        using var http = LocalHttp.For(token.Control + "/", Limit, new SslClientAuthenticationOptions
        {
            EnabledSslProtocols = SslProtocols.Tls13,
            RemoteCertificateValidationCallback = (_, certificate, _, _) => IsControl(ca, certificate as X509Certificate2),
        });
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var response = await http.PostAsJsonAsync("cluster/join", new JoinRequest(token.Secret, NodeIdentity.Request(key), address),
            ClusterJson.Default.JoinRequest);
        if (!response.IsSuccessStatusCode)
            throw new InvalidDataException(await DetailAsync(response));
        var joined = await response.Content.ReadFromJsonAsync(ClusterJson.Default.Joined)
            ?? throw new InvalidDataException("it answers with nothing");
        if (joined.Role != role)
            throw new InvalidDataException($"the join token is for a {joined.Role}, and this is to be a {role}");
        NodeIdentity.Create(folder, caPem, key, joined.Certificate, joined.Revoked, TimeProvider.System);
        return joined;
    }

    /// <summary>The CA's certificate, from whoever answers: by the fingerprint in the token it is known to be the right one.</summary>
    private static async Task<string> AuthorityAsync(JoinToken token)
    {
        using var http = LocalHttp.For(token.Control + "/", Limit, new SslClientAuthenticationOptions
        {
            EnabledSslProtocols = SslProtocols.Tls13,
#pragma warning disable CA5359 // Nothing is said on this connection, and what is heard is checked by its hash.
            RemoteCertificateValidationCallback = (_, _, _, _) => true,
#pragma warning restore CA5359
        });
        var pem = await http.GetStringAsync("cluster/ca");
        try
        {
            using var ca = X509Certificate2.CreateFromPem(pem);
            return Convert.ToHexStringLower(SHA256.HashData(ca.RawData)) == token.Fingerprint ? ca.ExportCertificatePem()
                : throw new InvalidDataException("another machine answers there than the one that made the token: its CA has another fingerprint");
        }
        catch (CryptographicException)
        {
            throw new InvalidDataException("what answers there is no control machine");
        }
    }

    private static bool IsControl(X509Certificate2 ca, X509Certificate2? peer)
    {
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.Add(ca);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.DisableCertificateDownloads = true;
        return peer is not null && chain.Build(peer) && NodeName.Of(peer)?.Role == Roles.Control && peer.MatchesHostname(NodeName.ControlHost);
    }

    private static async Task<string> DetailAsync(HttpResponseMessage response)
    {
        try
        {
            using var body = JsonDocument.Parse(await response.Content.ReadAsStringAsync());
            if (body.RootElement.TryGetProperty("detail", out var detail) && detail.GetString() is { } text)
                return text;
        }
        catch (JsonException)
        {
            // The status must do.
        }
        return $"it answers {(int)response.StatusCode}";
    }
}
