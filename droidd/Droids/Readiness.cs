using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace Appoxy.Droidd.Droids;

/// <summary>Whether a droid can take requests: its port accepts, or its health path answers 2xx or 3xx.</summary>
internal static class Readiness
{
    private static readonly TimeSpan Attempt = TimeSpan.FromSeconds(1);
    /// <summary>How long a process without a port has to be up.</summary>
    public static readonly TimeSpan StaysUp = TimeSpan.FromSeconds(3);

    /// <summary>The same for a version that has stayed up before: a roll-back is to take seconds in all.</summary>
    public static readonly TimeSpan StaysUpAgain = TimeSpan.FromSeconds(1);

    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(250);

    /// <summary>Asks until the droid is ready; null then, else why it is not.</summary>
    /// <param name="address"><c>ip:port</c>.</param>
    /// <param name="policy">The health path and the time-out.</param>
    /// <param name="died">Why the container can't become ready any more; null while it can.</param>
    /// <param name="cancel">Ends the wait.</param>
    public static async Task<string?> WaitAsync(string address, DroidPolicy policy, Func<Task<string?>> died, CancellationToken cancel)
    {
        var endpoint = IPEndPoint.Parse(address);
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        timeout.CancelAfter(TimeSpan.FromSeconds(policy.StartTimeout));
        var fault = $"did not open port {endpoint.Port}";
        var (began, looked) = (Stopwatch.StartNew(), Stopwatch.StartNew());
        try
        {
            while (true)
            {
                (var ready, fault) = policy.Health is null
                    ? (await AcceptsAsync(endpoint, timeout.Token), fault)
                    : await AnswersAsync(endpoint, policy.Health, timeout.Token);
                if (ready)
                    return null;
                if (looked.Elapsed >= Look)
                {
                    if (await died() is { } reason)
                        return reason;
                    looked.Restart();
                }
                // The wait for the next look adds no more than a twentieth to a start.
                await Task.Delay(TimeSpan.FromMilliseconds(Math.Clamp(began.Elapsed.TotalMilliseconds / 20, 2, 200)), timeout.Token);
            }
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            return $"{fault} within {Quantities.FormatSeconds(policy.StartTimeout)}";
        }
    }

    /// <summary>Waits until a process without a port has been up for so long that it most likely stays; null then, else why it does not.</summary>
    /// <param name="time">For so long.</param>
    /// <param name="died">Why it is up no more; null while it is.</param>
    /// <param name="cancel">Ends the wait.</param>
    public static async Task<string?> StaysUpAsync(TimeSpan time, Func<Task<string?>> died, CancellationToken cancel)
    {
        for (var start = Stopwatch.StartNew(); start.Elapsed < time; await Task.Delay(Look, cancel))
        {
            if (await died() is { } reason)
                return reason;
        }
        return await died();
    }

    /// <summary>Whether it is ready at this moment.</summary>
    public static async Task<bool> IsReadyAsync(string address, DroidPolicy policy, CancellationToken cancel) => policy.Health is { } path
        ? (await AnswersAsync(IPEndPoint.Parse(address), path, cancel)).Ready
        : await AcceptsAsync(IPEndPoint.Parse(address), cancel);

    /// <summary>Whether the port accepts at this moment.</summary>
    public static async Task<bool> AcceptsAsync(IPEndPoint endpoint, CancellationToken cancel)
    {
        using var attempt = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        attempt.CancelAfter(Attempt);
        using var socket = new Socket(endpoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            await socket.ConnectAsync(endpoint, attempt.Token);
            return true;
        }
        catch (Exception e) when (e is SocketException || (e is OperationCanceledException && !cancel.IsCancellationRequested))
        {
            return false;
        }
    }

    private static async Task<(bool Ready, string Fault)> AnswersAsync(IPEndPoint endpoint, string path, CancellationToken cancel)
    {
        using var http = LocalHttp.For($"http://{endpoint}/", Attempt);
        try
        {
            using var response = await http.GetAsync(path, HttpCompletionOption.ResponseHeadersRead, cancel);
            return ((int)response.StatusCode is >= 200 and < 400, $"{path} did not answer 2xx or 3xx (last answer {(int)response.StatusCode})");
        }
        catch (Exception e) when (e is HttpRequestException || (e is TaskCanceledException && !cancel.IsCancellationRequested))
        {
            return (false, $"{path} on port {endpoint.Port} did not answer 2xx or 3xx");
        }
    }
}
