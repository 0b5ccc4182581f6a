using System.Diagnostics;

namespace Appoxy.Cli;

/// <summary>
/// Follows a deployment's log to its end, over breaks: when routerd or droidd starts anew, the log is asked for again and what was printed
/// already is left out.
/// </summary>
internal sealed class DeploymentWatch(Routerd routerd, string app, int number, Action<string> print)
{
    /// <summary>An hour for the deployment itself, and some for other builds that come first.</summary>
    private static readonly TimeSpan Longest = TimeSpan.FromHours(4);
    private static readonly TimeSpan LongestOutage = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);

    /// <summary>A log that says nothing for so long may be a connection that is dead: then the deployment's state is asked for.</summary>
    private static readonly TimeSpan Quiet = TimeSpan.FromSeconds(15);

    private readonly string path = Routerd.App(app, $"deployments/{number}");

    /// <summary>What each printed line was, to know it again; not the text, as logs are long.</summary>
    private readonly List<int> printed = [];
    private readonly Stopwatch sinceAnswer = Stopwatch.StartNew();
    private bool outage;

    /// <summary>Prints the log as it comes, until the deployment is live, failed or cancelled.</summary>
    /// <exception cref="Failure">The deployment is gone, takes over four hours, or routerd is away for a minute.</exception>
    public async Task<Answer<Deployment>> UntilFinalAsync(CancellationToken cancel)
    {
        using var bounded = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bounded.CancelAfter(Longest);
        try
        {
            while (true)
            {
                var whole = await PrintAsync(follow: true, bounded.Token);
                var deployment = await AskAsync<Deployment>(path, bounded.Token);
                if (DeploymentStates.IsFinal(deployment.Value.State))
                {
                    if (!whole)
                        await PrintAsync(follow: false, bounded.Token);
                    return deployment;
                }
                await Task.Delay(Pause, bounded.Token);
            }
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new Failure(ExitCodes.Failed,
                $"deployment {number} of {app} is not done after {Output.Span(Longest)}; to see it: appoxy deployments {app}");
        }
    }

    /// <summary>Asks routerd, again and again while it can't be reached, but no longer than a minute since its last answer.</summary>
    public async Task<Answer<T>> AskAsync<T>(string what, CancellationToken cancel)
    {
        while (true)
        {
            try
            {
                var answer = await routerd.GetAsync<T>(what, cancel);
                Answered();
                return answer;
            }
            catch (Unreachable e) when (sinceAnswer.Elapsed < LongestOutage)
            {
                if (!outage)
                    Output.Note($"{e.Message}; trying again");
                outage = true;
                await Task.Delay(Pause, cancel);
            }
            catch (Unreachable e)
            {
                throw new Failure(ExitCodes.Failed,
                    $"{e.Message}, for {Output.Span(LongestOutage)} now; deployment {number} may go on: see appoxy deployments {app}");
            }
        }
    }

    /// <summary>Prints what is new of the log; true if it came to its end, false if it broke off or can't be had now.</summary>
    private async Task<bool> PrintAsync(bool follow, CancellationToken cancel)
    {
        var line = 0;
        try
        {
            await using var stream = await routerd.StreamAsync($"{path}/log{(follow ? "?follow=true" : "")}", cancel);
            Answered();
            var log = new LogReader(stream);
            while (true)
            {
                string? text;
                try
                {
                    text = await log.NextAsync(Quiet, cancel);
                }
                catch (TimeoutException)
                {
                    if (DeploymentStates.IsFinal((await AskAsync<Deployment>(path, cancel)).Value.State))
                        return false;
                    continue;
                }
                if (text is null)
                    return true;
                Answered();
                PrintOnce(line++, text);
            }
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            return false;
        }
        catch (Failure e) when (e is Unreachable || e.ExitCode is ExitCodes.NotFound or ExitCodes.Failed)
        {
            // There may be no log yet, or its droid-server is away: the deployment's state decides how it goes on.
            return false;
        }
    }

    /// <summary>Prints the line unless it was printed before; a log that differs from there on was begun anew.</summary>
    private void PrintOnce(int line, string text)
    {
        var hash = text.GetHashCode(StringComparison.Ordinal);
        if (line < printed.Count)
        {
            if (printed[line] == hash)
                return;
            printed.RemoveRange(line, printed.Count - line);
        }
        printed.Add(hash);
        print(text);
    }

    private void Answered()
    {
        sinceAnswer.Restart();
        outage = false;
    }
}
