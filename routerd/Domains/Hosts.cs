namespace Appoxy.Routerd.Domains;

/// <summary>The order in which a host is looked up.</summary>
internal static class Hosts
{
    /// <summary>The wildcards that cover <paramref name="host"/>, nearest first: <c>*.b.c</c> for <c>a.b.c</c>, then <c>*.c</c>.</summary>
    public static string[] Wildcards(string host)
    {
        var labels = host.Split('.');
        return [.. Enumerable.Range(1, labels.Length - 1).Select(i => "*." + string.Join('.', labels[i..]))];
    }
}
