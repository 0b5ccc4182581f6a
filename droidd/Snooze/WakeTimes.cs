using Appoxy.Droidd.Droids;

namespace Appoxy.Droidd.Snooze;

/// <summary>How long an app's last wakes took, until it was ready, and what is to be expected of the next. Starts are kept on disk.</summary>
internal sealed class WakeTimes(DroidFolder folder)
{
    private const int Kept = 9;
    private readonly Lock gate = new();
    private readonly List<double> thaws = [];
    private List<double>? starts;

    /// <summary>Adds one.</summary>
    /// <param name="thawed">Whether the container was but frozen.</param>
    /// <param name="took">From the word to wake until ready.</param>
    public void Add(bool thawed, TimeSpan took)
    {
        lock (gate)
        {
            var times = thawed ? thaws : starts ??= [.. folder.ReadStarts()];
            times.Add(Math.Round(took.TotalSeconds, 3));
            if (times.Count > Kept)
                times.RemoveAt(0);
            if (!thawed)
                Keep(times);
        }
    }

    private void Keep(List<double> times)
    {
        try
        {
            folder.WriteStarts(times);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A full disk is no reason to turn away the visitor who woke the app; the next start writes them all.
        }
    }

    /// <summary>The seconds that the next wake will take: the median of the last ones, so that one odd start does not count; null while none is known.</summary>
    /// <param name="paused">Whether it is frozen, rather than stopped.</param>
    public double? Expected(bool paused)
    {
        lock (gate)
        {
            var times = paused ? thaws : starts ??= [.. folder.ReadStarts()];
            return times.Count == 0 ? null : times.Order().ElementAt(times.Count / 2);
        }
    }
}
