using System.Buffers.Text;

namespace Appoxy.Nginx;

/// <summary>
/// What is counted of one line of an access log (templates/log-format.conf.sbn). Found by the names of its values alone: quotes within
/// values are escaped by nginx, so that nothing that a visitor sends looks like one.
/// </summary>
public readonly ref struct Visit
{
    /// <summary>What the visitor got.</summary>
    public int Status { get; private init; }

    /// <summary>Of the answer's body.</summary>
    public long Bytes { get; private init; }

    /// <summary>From the request's first byte to the answer's last.</summary>
    public double Seconds { get; private init; }

    /// <summary>Of the droid; empty where none was found.</summary>
    public ReadOnlySpan<byte> Uid { get; private init; }

    /// <summary>Where it was passed on to, one address or several; empty where nginx answered by itself.</summary>
    public ReadOnlySpan<byte> Upstream { get; private init; }

    /// <summary>What those answered.</summary>
    public ReadOnlySpan<byte> UpstreamStatus { get; private init; }

    /// <summary>False for what is no such line, as of a log format of an admin's own without these values.</summary>
    public static bool TryRead(ReadOnlySpan<byte> line, out Visit visit)
    {
        visit = default;
        if (!Utf8Parser.TryParse(After(line, "\"status\":"u8), out int status, out _) || !Utf8Parser.TryParse(After(line, "\"bytes\":"u8), out long bytes, out _)
            || !Utf8Parser.TryParse(After(line, "\"seconds\":"u8), out double seconds, out _))
            return false;
        visit = new Visit
        {
            Status = status, Bytes = bytes, Seconds = seconds, Uid = Text(line, "\"uid\":\""u8), Upstream = Text(line, "\"upstream\":\""u8),
            UpstreamStatus = Text(line, "\"upstream_status\":\""u8),
        };
        return true;
    }

    private static ReadOnlySpan<byte> After(ReadOnlySpan<byte> line, ReadOnlySpan<byte> name) =>
        line.IndexOf(name) is >= 0 and var at ? line[(at + name.Length)..] : default;

    private static ReadOnlySpan<byte> Text(ReadOnlySpan<byte> line, ReadOnlySpan<byte> name)
    {
        var rest = After(line, name);
        return rest.IndexOf((byte)'"') is > 0 and var end ? rest[..end] : default;
    }
}
