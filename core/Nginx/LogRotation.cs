using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Appoxy.Nginx;

/// <summary>Keeps the log files of one nginx from filling the disk: one that has grown too long becomes <c>.1</c>, up to <c>.3</c>.</summary>
/// <param name="name"><c>global</c> or <c>local</c>; its logs are <c>{name}-*.log</c>.</param>
/// <param name="settings">The nginx.</param>
/// <param name="log">Where a fault is told.</param>
/// <param name="time">The clock.</param>
public sealed partial class LogRotation(string name, NginxSettings settings, ILogger<LogRotation> log, TimeProvider time) : BackgroundService
{
    private const int Kept = 3;
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(10);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Interval, time);
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            try
            {
                Rotate();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                LogFault(log, name, e.Message);
            }
        }
    }

    private void Rotate()
    {
        _ = Quantities.TryParseBytes(settings.MaxLog, out var most);
        var full = new DirectoryInfo(settings.LogDir).EnumerateFiles($"{name}-*.log").Where(f => f.Length > most).ToList();
        foreach (var file in full)
        {
            for (var old = Kept - 1; old >= 1; old--)
                if (File.Exists($"{file.FullName}.{old}"))
                    File.Move($"{file.FullName}.{old}", $"{file.FullName}.{old + 1}", overwrite: true);
            File.Move(file.FullName, file.FullName + ".1", overwrite: true);
        }
        if (full.Count > 0)
            NginxMaster.ReopenLogs(settings.PidFile);
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "The logs of the {Nginx} nginx can't be rotated: {Fault}")]
    private static partial void LogFault(ILogger log, string nginx, string fault);
}
