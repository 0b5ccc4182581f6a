using System.Text.Json;
using Docker.DotNet;

namespace Appoxy.Droidd.Builds;

/// <summary>Docker's own words out of its error answers.</summary>
internal static class DockerFault
{
    /// <summary>The <c>message</c> of the answer's JSON, in one line; the whole where it has none.</summary>
    public static string Words(Exception fault)
    {
        if (fault is not DockerApiException { ResponseBody: { } body })
            return fault.Message.ReplaceLineEndings(" ");
        try
        {
            using var answer = JsonDocument.Parse(body);
            return answer.RootElement.GetProperty("message").GetString()!.ReplaceLineEndings(" ").Trim();
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            return fault.Message.ReplaceLineEndings(" ");
        }
    }

    /// <summary>What the owner of an app is told then.</summary>
    public const string DiskIsFull = "the server's disk is full";

    /// <summary>Whether the disk is full, in Docker's words or the system's.</summary>
    public static bool IsDiskFull(string words) => words.Contains("no space left on device", StringComparison.OrdinalIgnoreCase);
}
