using System.Diagnostics.CodeAnalysis;
using System.Text.RegularExpressions;

namespace Appoxy;

/// <summary>What a volume may be called, and where in a container it may be.</summary>
public static partial class VolumeRules
{
    public const string PathExample = "an absolute path such as /data; not /, and nothing at or below /proc, /sys and /dev";

    private static readonly string[] Kernels = ["/proc", "/sys", "/dev"];

    /// <summary>A name such as <c>data</c>: up to 32 of a-z, 0-9 and dashes.</summary>
    public static bool IsName([NotNullWhen(true)] string? text) => text is not null && Name().IsMatch(text);

    /// <summary>Whether a volume may be mounted there; the path is in its one form, without a final slash, <c>.</c> or <c>..</c>.</summary>
    public static bool IsPath([NotNullWhen(true)] string? text) => text is { Length: <= 200 } && Path().IsMatch(text)
        && text.Split('/').All(part => part is not ("." or "..")) && !Kernels.Any(k => text == k || text.StartsWith(k + "/", StringComparison.Ordinal));

    [GeneratedRegex(@"\A[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?\z")]
    private static partial Regex Name();

    [GeneratedRegex(@"\A(?:/[A-Za-z0-9._-]+)+\z")]
    private static partial Regex Path();
}
