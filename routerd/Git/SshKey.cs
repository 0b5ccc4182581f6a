using System.Diagnostics;

namespace Appoxy.Routerd.Git;

/// <summary>Makes ed25519 keys with ssh-keygen, since .NET knows neither the algorithm nor the file's form.</summary>
internal static class SshKey
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);

    /// <summary>A new key: the private part as a file holds it, the public one as a line of <c>authorized_keys</c>.</summary>
    /// <exception cref="IOException">ssh-keygen is not there, or fails.</exception>
    public static async Task<(string Private, string Public)> NewAsync(GitRepositories repositories, string comment, CancellationToken cancel)
    {
        var folder = Directory.CreateDirectory(Path.Combine(repositories.Root, ".key-" + Path.GetRandomFileName()),
            UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute).FullName;
        try
        {
            var file = Path.Combine(folder, "key");
            using var keygen = Start(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", file]);
            keygen.StandardInput.Close();
            using var bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
            bound.CancelAfter(Limit);
            var said = await keygen.StandardError.ReadToEndAsync(bound.Token);
            await keygen.WaitForExitAsync(bound.Token);
            if (keygen.ExitCode != 0)
                throw new IOException($"ssh-keygen failed: {said.Trim()}");
            return (await File.ReadAllTextAsync(file, bound.Token), (await File.ReadAllTextAsync(file + ".pub", bound.Token)).Trim());
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static Process Start(string[] arguments)
    {
        try
        {
            return Process.Start(new ProcessStartInfo("ssh-keygen", arguments)
            {
                RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true,
            })!;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            throw Problem.Unavailable("There is no ssh-keygen on this machine; an admin can install openssh-client.");
        }
    }
}
