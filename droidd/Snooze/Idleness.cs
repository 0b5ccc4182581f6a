using Appoxy.Droidd.LocalNginx;

namespace Appoxy.Droidd.Snooze;

/// <summary>
/// For how long droids have been idle. nginx stamps requests by the wall clock, which may jump; so a stamp counts only as far as it
/// is another than at the last look, which is timed by the clock that never jumps.
/// </summary>
internal sealed class Idleness(TimeProvider time)
{
    private readonly Dictionary<string, (long Stamp, long ActiveAt)> seen = [];
    private long? looked;

    /// <summary>How many droids are known here.</summary>
    public int Count => seen.Count;

    /// <summary>Takes in what nginx has seen by now.</summary>
    public void Take(Activity activity)
    {
        var now = time.GetTimestamp();
        var between = looked is { } before ? time.GetElapsedTime(before, now).TotalMilliseconds : 0;
        foreach (var (uid, stamp) in activity.Droids)
        {
            if (seen.TryGetValue(uid, out var had) && had.Stamp == stamp)
                continue;
            // Within the time since the last look, or it would have been seen then.
            var age = Math.Clamp(activity.Now - stamp, 0, between);
            seen[uid] = (stamp, now - (long)(age / 1000 * time.TimestampFrequency));
        }
        looked = now;
    }

    /// <summary>How long nobody has asked for a droid since <paramref name="activeStamp"/>, when it was woken.</summary>
    public TimeSpan Of(string uid, long activeStamp) =>
        time.GetElapsedTime(seen.TryGetValue(uid, out var had) ? Math.Max(had.ActiveAt, activeStamp) : activeStamp);

    /// <summary>Forgets droids that are not here any more.</summary>
    public void Keep(Func<string, bool> here)
    {
        foreach (var uid in seen.Keys.Where(uid => !here(uid)).ToList())
            seen.Remove(uid);
    }
}
