namespace Appoxy.Routerd;

/// <summary>
/// Work that is done over and over until what is there is what is wanted. Each round looks at the whole state afresh, so that a
/// round lost to an outage or a kill loses nothing.
/// </summary>
/// <param name="pause">The time between two rounds, unless woken.</param>
/// <param name="log">Told about a fault once, not each round.</param>
internal abstract partial class Rounds(TimeSpan pause, ILogger log) : BackgroundService
{
    private readonly SemaphoreSlim woken = new(0, 1);
    private string? fault;

    /// <summary>Lets the next round begin at once.</summary>
    public void Wake()
    {
        try
        {
            woken.Release();
        }
        catch (SemaphoreFullException)
        {
            // Woken already.
        }
    }

    protected abstract Task RoundAsync(CancellationToken cancel);

    protected sealed override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        await Task.Yield();
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                await RoundAsync(stoppingToken);
                if (fault is not null)
                    LogRecovered(log, GetType().Name);
                fault = null;
            }
            catch (Exception) when (stoppingToken.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e)
            {
                Outage.Count(e);
                var words = Outage.Words(e);
                if (fault != words && Outage.Is(e))
                    LogOutage(log, GetType().Name, words);
                else if (fault != words)
                    LogFault(log, e, GetType().Name);
                fault = words;
            }
            await ((Task)woken.WaitAsync(pause, stoppingToken)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    public override void Dispose()
    {
        base.Dispose();
        woken.Dispose();
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Loop} waits: {Fault}")]
    private static partial void LogOutage(ILogger log, string loop, string fault);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Loop} failed and tries again")]
    private static partial void LogFault(ILogger log, Exception e, string loop);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Loop} works again")]
    private static partial void LogRecovered(ILogger log, string loop);
}
