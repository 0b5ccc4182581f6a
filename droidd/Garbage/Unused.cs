namespace Appoxy.Droidd.Garbage;

/// <summary>Something that nothing uses now and that a later build may find useful.</summary>
/// <param name="Name">For the log.</param>
/// <param name="Bytes">What its removal gives back, as far as it can be told.</param>
/// <param name="LastUsed">When it was of use.</param>
/// <param name="RemoveAsync">Removes it.</param>
internal sealed record Unused(string Name, long Bytes, DateTimeOffset LastUsed, Func<CancellationToken, Task> RemoveAsync)
{
    /// <summary>
    /// What is to go, oldest first: until the rest fits <paramref name="budget"/>, and as long as <paramref name="isShort"/> says that the
    /// disk is short, which is asked anew after each.
    /// </summary>
    /// <param name="all">What there is.</param>
    /// <param name="budget">How many bytes of it may stay.</param>
    /// <param name="before">What was of use after this moment stays in any case.</param>
    /// <param name="isShort">Whether more has to go.</param>
    public static IEnumerable<Unused> Surplus(IReadOnlyCollection<Unused> all, long budget, DateTimeOffset before, Func<bool> isShort)
    {
        var total = all.Sum(u => u.Bytes);
        foreach (var oldest in all.Where(u => u.LastUsed <= before).OrderBy(u => u.LastUsed))
        {
            if (total <= budget && !isShort())
                yield break;
            yield return oldest;
            total -= oldest.Bytes;
        }
    }
}
