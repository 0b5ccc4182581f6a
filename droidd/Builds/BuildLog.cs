using System.Text;

namespace Appoxy.Droidd.Builds;

/// <summary>
/// A deployment's log on disk: <c>build.out</c> has every line, <c>build.err</c> those that tell of a fault. Written through at
/// once, so that followers see each line as it comes and a killed droidd loses none. Lines that a full disk can't take are left out, and
/// the next that it takes is told to follow them: the deployment's own state says why it failed.
/// </summary>
internal sealed class BuildLog(string folder) : IDisposable
{
    private const long MaxBytes = 16 << 20;
    private readonly Lock gate = new();
    private readonly Part output = new(folder, "out");
    private readonly Part errors = new(folder, "err");
    private bool full;

    public static string PathOf(string folder, string stream) => Path.Combine(folder, "build." + stream);

    /// <summary>A line of ours: always kept.</summary>
    public void Say(string line)
    {
        lock (gate)
            Append(output, line);
    }

    /// <summary>A line that tells of a fault: always kept, in both files.</summary>
    public void Error(string line)
    {
        lock (gate)
        {
            Append(output, line);
            Append(errors, line);
        }
    }

    /// <summary>A line that the build printed: left out once the log is too long. Returns when it is written, so that a build can't run ahead.</summary>
    /// <param name="line">The line.</param>
    /// <param name="fault">Whether it tells of a fault.</param>
    public void Output(string line, bool fault = false)
    {
        lock (gate)
        {
            if (full)
                return;
            full = output.Length + line.Length > MaxBytes;
            Append(output, full ? "… the log is longer than 16 MiB; what else the build prints is left out" : line);
            if (fault && !full)
                Append(errors, line);
        }
    }

    private static void Append(Part file, string text) => file.Append(Clean(text) + "\n");

    /// <summary>Terminal control, which a build may print, stays out of the log, but for tabs and colours.</summary>
    private static string Clean(string text) =>
        string.Concat(text.TrimEnd('\r', '\n').Split('\r')[^1].Where(c => !char.IsControl(c) || c is '\t' or '\u001b'));

    /// <summary>Copies a log to <paramref name="target"/>; with <paramref name="running"/>, waits for more until it says no.</summary>
    public static async Task CopyAsync(string folder, string stream, Stream target, Func<bool> running, CancellationToken cancel)
    {
        var path = PathOf(folder, stream);
        while (!File.Exists(path))
        {
            if (!running())
                return;
            await Task.Delay(TimeSpan.FromMilliseconds(100), cancel);
        }
        await using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        while (true)
        {
            // Asked before the copy, so that what came just before the end is still copied.
            var more = running();
            await file.CopyToAsync(target, cancel);
            await target.FlushAsync(cancel);
            if (!more)
                return;
            await Task.Delay(TimeSpan.FromMilliseconds(100), cancel);
        }
    }

    public void Dispose()
    {
        output.Dispose();
        errors.Dispose();
    }

    /// <summary>One of the two files, which is opened as soon as the disk lets it be.</summary>
    private sealed class Part(string folder, string stream) : IDisposable
    {
        private FileStream? file;
        private bool lacks;

        public long Length => file?.Length ?? 0;

        public void Append(string text)
        {
            try
            {
                if (file is null)
                {
                    Directory.CreateDirectory(folder);
                    // Unbuffered: what could not be written must not stand before what is.
                    file = new FileStream(PathOf(folder, stream), FileMode.Append, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
                }
                file.Write(Encoding.UTF8.GetBytes(lacks ? "… lines are missing here: the disk was full\n" + text : text));
                lacks = false;
            }
            catch (IOException e) when (DockerFault.IsDiskFull(e.Message))
            {
                lacks = true;
            }
        }

        public void Dispose() => file?.Dispose();
    }
}
