using CliWrap;
using CliWrap.Buffered;

namespace Appoxy.Nginx;

/// <summary>What changed from one text to another, as <c>diff -u</c> tells it.</summary>
public static class UnifiedDiff
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);

    /// <summary>Empty where nothing changed.</summary>
    /// <param name="before">Name and text as it was; the name stands behind <c>---</c>.</param>
    /// <param name="after">Name and text as it becomes.</param>
    /// <param name="cancel">Ends the comparison.</param>
    /// <exception cref="IOException">The texts can't be compared.</exception>
    public static async Task<string> OfAsync((string Name, string Text) before, (string Name, string Text) after, CancellationToken cancel)
    {
        if (before.Text == after.Text)
            return "";
        var folder = Directory.CreateTempSubdirectory("appoxy-diff-");
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        timeout.CancelAfter(Limit);
        try
        {
            var (a, b) = (Path.Combine(folder.FullName, "a"), Path.Combine(folder.FullName, "b"));
            await File.WriteAllTextAsync(a, before.Text, cancel);
            await File.WriteAllTextAsync(b, after.Text, cancel);
            var ran = await Cli.Wrap("/usr/bin/diff")
                .WithArguments(["-a", "-u", "--label", before.Name, "--label", after.Name, "--", a, b])
                .WithValidation(CommandResultValidation.None).ExecuteBufferedAsync(timeout.Token);
            // 1 says that they differ, 2 that diff failed.
            return ran.ExitCode < 2 ? ran.StandardOutput : throw new IOException($"diff failed: {ran.StandardError.Trim()}");
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new IOException($"diff did not end within {Limit.TotalSeconds} s");
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }
}
