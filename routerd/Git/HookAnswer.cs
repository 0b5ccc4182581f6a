using System.Text;

namespace Appoxy.Routerd.Git;

/// <summary>
/// What a push's hook is answered, line by line as it comes. Each line of text gets a space before it, so that nothing that a build
/// prints can pass for the verdict.
/// </summary>
internal sealed class HookAnswer(Stream inner) : OneWayStream
{
    private bool begun;

    public async Task SayAsync(string line, CancellationToken cancel)
    {
        await WriteAsync(Encoding.UTF8.GetBytes((begun ? "\n" : "") + line.ReplaceLineEndings(" ") + "\n"), cancel);
        await FlushAsync(cancel);
    }

    public async Task EndAsync(bool taken, CancellationToken cancel)
    {
        await inner.WriteAsync(Encoding.ASCII.GetBytes((begun ? "\n" : "") + (taken ? "=ok\n" : "=no\n")), cancel);
        await inner.FlushAsync(cancel);
    }

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        using var text = new MemoryStream(buffer.Length + 64);
        foreach (var b in buffer.Span)
        {
            if (!begun)
                text.WriteByte((byte)' ');
            text.WriteByte(b);
            begun = b != '\n';
        }
        await inner.WriteAsync(text.GetBuffer().AsMemory(0, (int)text.Length), cancellationToken);
    }

    public override Task FlushAsync(CancellationToken cancellationToken) => inner.FlushAsync(cancellationToken);

    public override bool CanWrite => true;
}
