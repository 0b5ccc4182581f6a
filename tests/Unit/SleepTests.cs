using Appoxy.Droidd.Hooks;
using Appoxy.Droidd.LocalNginx;
using Appoxy.Droidd.Snooze;

namespace Appoxy.Tests.Unit;

public sealed class SleepTests
{
    [Theory]
    [InlineData("08:00-18:00", "08:00-18:00 UTC")]
    [InlineData("mon-FRI 08:00-18:00 Europe/Berlin", "Mon-Fri 08:00-18:00 Europe/Berlin")]
    [InlineData("Sat 22:00-06:00 UTC,Sun-Sun  00:00-24:00  America/New_York", "Sat 22:00-06:00 UTC, Sun 00:00-24:00 America/New_York")]
    public void Times_to_be_awake_are_read_and_read_back_as_the_same(string text, string normal)
    {
        var form = string.Join(", ", AwakeWindow.Parse(text)!);
        Assert.Equal(normal, form);
        Assert.Equal(normal, string.Join(", ", AwakeWindow.Parse(form)!));
    }

    [Theory]
    [InlineData("")]
    [InlineData("always")]
    [InlineData("Mon-Fri 8:00-18:00")]
    [InlineData("Mon-Fri 08:00-18:00 Europe/Nowhere")]
    [InlineData("Mon-Fri 08:00-18:00 ../../etc/passwd")]
    [InlineData("Mon-Fri 08:00-18:00,")]
    [InlineData("Mon-Fri 08:00-08:00")]
    [InlineData("Mon-Fri 08:00-25:00")]
    [InlineData("24:00-08:00")]
    [InlineData("Mon,Fri 08:00-18:00")]
    public void What_is_no_time_to_be_awake_is_refused(string text) => Assert.Null(AwakeWindow.Parse(text));

    [Theory]
    // A Monday in summer and in winter: Berlin is two hours ahead of UTC, then one.
    [InlineData("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-07-06T05:59:59Z", false)]
    [InlineData("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-07-06T06:00:00Z", true)]
    [InlineData("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-07-06T16:00:00Z", false)]
    [InlineData("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-12-07T07:00:00Z", true)]
    [InlineData("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-12-07T06:59:59Z", false)]
    [InlineData("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-07-05T10:00:00Z", false)]
    // Over midnight, and over the week's end.
    [InlineData("Sat-Mon 22:00-06:00", "2026-07-07T05:59:00Z", true)]
    [InlineData("Sat-Mon 22:00-06:00", "2026-07-07T22:00:00Z", false)]
    [InlineData("Sat-Mon 22:00-06:00", "2026-07-04T05:00:00Z", false)]
    [InlineData("Sat-Mon 22:00-06:00", "2026-07-05T23:00:00Z", true)]
    // 02:00 becomes 03:00 in Berlin on 2026-03-29: 02:30 is at 01:00 UTC, when the clocks go on.
    [InlineData("02:30-04:00 Europe/Berlin", "2026-03-29T00:59:59Z", false)]
    [InlineData("02:30-04:00 Europe/Berlin", "2026-03-29T01:00:00Z", true)]
    [InlineData("02:30-04:00 Europe/Berlin", "2026-03-29T02:00:00Z", false)]
    [InlineData("02:10-02:50 Europe/Berlin", "2026-03-29T01:00:00Z", false)]
    // 03:00 becomes 02:00 on 2026-10-25: from the first 02:30 to the last 02:45, without a gap.
    [InlineData("02:30-02:45 Europe/Berlin", "2026-10-25T00:29:59Z", false)]
    [InlineData("02:30-02:45 Europe/Berlin", "2026-10-25T00:30:00Z", true)]
    [InlineData("02:30-02:45 Europe/Berlin", "2026-10-25T01:00:00Z", true)]
    [InlineData("02:30-02:45 Europe/Berlin", "2026-10-25T01:45:00Z", false)]
    // The 30th of December 2011 was skipped in Samoa.
    [InlineData("Fri 08:00-09:00 Pacific/Apia", "2011-12-30T18:30:00Z", false)]
    public void Times_to_be_awake_go_by_the_clocks_of_their_zone(string text, string moment, bool awake) =>
        Assert.Equal(awake, AwakeWindow.Parse(text)!.Single().Contains(DateTimeOffset.Parse(moment, System.Globalization.CultureInfo.InvariantCulture)));

    [Theory]
    [InlineData("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true)]
    [InlineData("application/xml, text/html;q=0.9", true)]
    [InlineData("*/*", false)]
    [InlineData("", false)]
    [InlineData("text/event-stream", false)]
    [InlineData("text/html-like", false)]
    public void Browser_that_opens_a_page_is_known_by_what_it_accepts(string accept, bool html) => Assert.Equal(html, WakeHook.TakesHtml(accept));

    [Theory]
    [InlineData(0)]
    [InlineData(365)]
    [InlineData(-365)]
    public void Jump_of_the_wall_clock_changes_no_idle_time(int days)
    {
        var clock = new JumpyClock();
        var idleness = new Idleness(clock);
        var start = clock.GetTimestamp();
        var requests = new Dictionary<string, long> { ["busy"] = clock.Wall, ["quiet"] = clock.Wall };
        idleness.Take(new Activity(clock.Wall, requests, new Dictionary<string, int>()));
        clock.Pass(TimeSpan.FromSeconds(10));
        requests["busy"] = clock.Wall - 2000;
        clock.Jump(TimeSpan.FromDays(days));
        // The request was before the jump, its time is told after it.
        idleness.Take(new Activity(clock.Wall, requests, new Dictionary<string, int>()));
        Assert.InRange(idleness.Of("busy", start).TotalSeconds, 0, 10);
        Assert.Equal(10, idleness.Of("quiet", start).TotalSeconds, 3);
        clock.Pass(TimeSpan.FromSeconds(5));
        requests["busy"] = clock.Wall - 1000;
        idleness.Take(new Activity(clock.Wall, requests, new Dictionary<string, int>()));
        Assert.Equal(1, idleness.Of("busy", start).TotalSeconds, 3);
        Assert.Equal(15, idleness.Of("quiet", start).TotalSeconds, 3);
        Assert.Equal(15, idleness.Of("never visited", start).TotalSeconds, 3);
        clock.Pass(TimeSpan.FromMinutes(30));
        // nginx was restarted, and knows of no request any more.
        idleness.Take(new Activity(clock.Wall, new Dictionary<string, long>(), new Dictionary<string, int>()));
        Assert.Equal(1801, idleness.Of("busy", start).TotalSeconds, 3);
    }
}
