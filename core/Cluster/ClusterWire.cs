using System.Text.Json;
using System.Text.Json.Serialization;

namespace Appoxy.Cluster;

/// <summary>Body of <c>POST /cluster/join</c>.</summary>
/// <param name="Secret">Of the join token.</param>
/// <param name="Request">A certificate signing request, PEM; of it the key alone counts.</param>
/// <param name="Address">An IP address or name at which others reach the machine; null for the one that it comes from.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Skip)]
public sealed record JoinRequest(string? Secret, string? Request, string? Address = null);

/// <summary>Answer of <c>POST /cluster/join</c>: what the machine is from now on.</summary>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Skip)]
public sealed record Joined
{
    public required string Name { get; init; }

    /// <summary>One of <see cref="Roles"/>.</summary>
    public required string Role { get; init; }

    /// <summary>PEM.</summary>
    public required string Certificate { get; init; }

    public required Revocations Revoked { get; init; }

    /// <summary>The domain below which apps get their first hostname.</summary>
    public required string Domain { get; init; }

    /// <summary>Where others reach the machine.</summary>
    public required string Address { get; init; }

    /// <summary>Where it joined; known to the one who did.</summary>
    public string? Control { get; init; }

    /// <summary>What a proxy needs besides; null for a droid-server.</summary>
    public JoinedProxy? Proxy { get; init; }
}

/// <summary>How a proxy signs in to the control machine's Postgres, which it reaches by a tunnel.</summary>
/// <param name="Database">The database.</param>
/// <param name="Username">The role.</param>
/// <param name="Password">Secret.</param>
public sealed record JoinedProxy(string Database, string Username, string Password);

/// <summary>Body of <c>POST /cluster/renew</c>.</summary>
/// <param name="Request">A certificate signing request, PEM, of a new key.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Skip)]
public sealed record Renewal(string? Request);

/// <summary>Answer of <c>POST /cluster/renew</c>.</summary>
/// <param name="Certificate">PEM.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Skip)]
public sealed record Renewed(string Certificate);

/// <summary>Body of <c>POST /cluster/heartbeat</c>: how a machine is.</summary>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Skip)]
public sealed record Heartbeat
{
    public required string Version { get; init; }
    public required int Cpus { get; init; }
    public required long MemoryBytes { get; init; }

    /// <summary>What programs could still take without swapping.</summary>
    public required long FreeMemoryBytes { get; init; }
    public required long DiskBytes { get; init; }
    public required long FreeDiskBytes { get; init; }

    /// <summary>The machine's clock.</summary>
    public required DateTimeOffset Clock { get; init; }

    /// <summary>Docker's version; null where there is none, or it does not answer.</summary>
    public string? Docker { get; init; }

    /// <summary>How many droids are there; null on a proxy.</summary>
    public int? Droids { get; init; }
}

/// <summary>Answer of <c>POST /cluster/heartbeat</c>: what the machine must know.</summary>
/// <param name="Revoked">The certificates that are to be refused.</param>
/// <param name="Clock">routerd's clock.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Skip)]
public sealed record HeartbeatAnswer(Revocations Revoked, DateTimeOffset Clock);

/// <summary>Certificates that are to be refused before they have ended.</summary>
/// <param name="Serials">In hex.</param>
/// <param name="List">The same as a certificate revocation list, PEM, for nginx and Postgres.</param>
public sealed record Revocations(IReadOnlyList<string> Serials, string List);

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(JoinRequest))]
[JsonSerializable(typeof(Joined))]
[JsonSerializable(typeof(Renewal))]
[JsonSerializable(typeof(Renewed))]
[JsonSerializable(typeof(Heartbeat))]
[JsonSerializable(typeof(HeartbeatAnswer))]
public sealed partial class ClusterJson : JsonSerializerContext;
