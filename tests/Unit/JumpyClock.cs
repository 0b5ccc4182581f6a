namespace Appoxy.Tests.Unit;

/// <summary>A clock whose hands can be set, and whose timestamps are right all the same.</summary>
internal sealed class JumpyClock : TimeProvider
{
    private TimeSpan passed;
    private DateTimeOffset wall = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    public long Wall => wall.ToUnixTimeMilliseconds();

    public void Pass(TimeSpan time) => (passed, wall) = (passed + time, wall + time);

    public void Jump(TimeSpan by) => wall += by;

    public override long GetTimestamp() => passed.Ticks;

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override DateTimeOffset GetUtcNow() => wall;
}
