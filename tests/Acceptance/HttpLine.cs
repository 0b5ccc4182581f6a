using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Appoxy.Tests;

/// <summary>
/// One kept connection to the global nginx, so that a test knows what waits for what: an HttpClient would choose among several, and
/// add its own time to each. Blocking, for a thread of its own.
/// </summary>
public sealed class HttpLine : IDisposable
{
    private static readonly int Limit = (int)TimeSpan.FromSeconds(10).TotalMilliseconds;
    private readonly Socket socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp)
    {
        NoDelay = true, SendTimeout = Limit, ReceiveTimeout = Limit,
    };
    private readonly byte[] buffer = new byte[32 << 10];
    private readonly int port;

    public HttpLine(int port)
    {
        this.port = port;
        socket.Connect(IPAddress.Loopback, port);
    }

    /// <summary>Whether nginx has said that it closes this connection.</summary>
    public bool Closed { get; private set; }

    /// <summary>GET / of a host. The answer must have a Content-Length, as all do that these tests ask for.</summary>
    public (int Status, string Body) Ask(string host, bool close = false)
    {
        socket.Send(Encoding.ASCII.GetBytes($"GET / HTTP/1.1\r\nHost: {host}\r\n{(close ? "Connection: close\r\n" : "")}\r\n"));
        var held = 0;
        var head = -1;
        while (head < 0)
        {
            held += Receive(held);
            head = buffer.AsSpan(0, held).IndexOf("\r\n\r\n"u8);
        }
        var lines = Encoding.ASCII.GetString(buffer, 0, head);
        var end = head + 4 + int.Parse(Header(lines, "Content-Length") ?? throw new IOException($"{host}: no length in {lines}"), CultureInfo.InvariantCulture);
        while (held < end)
            held += Receive(held);
        Closed = close || Header(lines, "Connection") == "close";
        return (int.Parse(lines.AsSpan(9, 3), CultureInfo.InvariantCulture), Encoding.ASCII.GetString(buffer, head + 4, end - head - 4).Trim());
    }

    /// <summary>The worker of nginx that has this connection, which must have been used; 0 when it is none of these.</summary>
    public int WorkerAmong(IEnumerable<int> workers)
    {
        var mine = ((IPEndPoint)socket.LocalEndPoint!).Port;
        // The other end's line: local address, remote address, …, inode.
        var inode = File.ReadLines("/proc/net/tcp").Skip(1).Select(l => l.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            .FirstOrDefault(l => l[1].EndsWith($":{port:X4}", StringComparison.Ordinal) && l[2].EndsWith($":{mine:X4}", StringComparison.Ordinal))?[9];
        return workers.FirstOrDefault(pid => Directory.EnumerateFiles($"/proc/{pid}/fd")
            .Any(fd => new FileInfo(fd).LinkTarget == $"socket:[{inode}]"));
    }

    private int Receive(int held)
    {
        if (held == buffer.Length)
            throw new IOException("the answer is too long");
        var read = socket.Receive(buffer, held, buffer.Length - held, SocketFlags.None);
        return read > 0 ? read : throw new IOException("nginx closed the connection");
    }

    private static string? Header(string lines, string name) => lines.Split("\r\n").Skip(1)
        .Where(l => l.StartsWith(name + ":", StringComparison.OrdinalIgnoreCase)).Select(l => l[(name.Length + 1)..].Trim()).FirstOrDefault();

    public void Dispose() => socket.Dispose();
}
