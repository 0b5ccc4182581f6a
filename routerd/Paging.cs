using Microsoft.AspNetCore.Mvc;

namespace Appoxy.Routerd;

/// <summary>
/// The part of a list that a caller asks for. Lists are read by the key that they are sorted by, from behind <see cref="After"/> on, so
/// that a page costs the same however long the list is.
/// </summary>
/// <param name="Limit">How many at most, from 1 to 500; 100 if left out.</param>
/// <param name="After">The <c>next</c> of the page before; the first page if left out.</param>
internal sealed record Paging([FromQuery(Name = "limit")] int? Limit, [FromQuery(Name = "after")] string? After)
{
    private const int Most = 500;
    private const int MaxCursor = 300;

    /// <summary>How many rows to read: one more than are shown, to know whether there are more.</summary>
    /// <exception cref="Problem">400: the limit or the cursor makes no sense.</exception>
    public int Rows
    {
        get
        {
            if (Limit is < 1 or > Most)
                throw Problem.BadRequest($"limit must be from 1 to {Most}.");
            if (After is not null && (After.Length is 0 or > MaxCursor || After.Any(c => char.IsControl(c) || char.IsSurrogate(c))))
                throw Problem.BadRequest("after must be the next of another page.");
            return (Limit ?? 100) + 1;
        }
    }

    /// <summary>The cursor as a number, where a list is sorted by one.</summary>
    /// <exception cref="Problem">400: it is none.</exception>
    public long? Number => After is null ? null
        : long.TryParse(After, System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out var number) ? number : throw Problem.BadRequest("after must be the next of another page.");

    /// <summary>Takes the row too many off <paramref name="rows"/>; the cursor of the next page, null where this is the last.</summary>
    public string? Cut<T>(List<T> rows, Func<T, string> keyOf)
    {
        if (rows.Count < Rows)
            return null;
        rows.RemoveAt(rows.Count - 1);
        return keyOf(rows[^1]);
    }
}
