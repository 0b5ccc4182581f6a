using System.Text;

namespace Appoxy.Droidd.Builds;

/// <summary>
/// What opens private repositories, as files that git and ssh read: neither argv nor the environment holds a secret. They lie in a
/// folder for droidd's user alone and are removed with this.
/// </summary>
internal sealed class GitSecrets : IDisposable
{
    private readonly string folder;
    private readonly string? key;
    private readonly string knownHosts;

    /// <param name="folder">Where the files are to lie; what is there is removed.</param>
    /// <param name="knownHosts">The app's own list of ssh hosts: a host's first key is kept, another one is refused.</param>
    /// <param name="source">The repository; its address may hold a password.</param>
    /// <param name="access">What the app has for git hosts; null for nothing.</param>
    public GitSecrets(string folder, string knownHosts, GitSource source, GitAccess? access)
    {
        (this.folder, this.knownHosts) = (folder, knownHosts);
        Dispose();
        Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        Write(Path.Combine(folder, "credentials"), Credentials(source.Url, access));
        if (access?.Key is { } text)
            Write(key = Path.Combine(folder, "key"), text);
    }

    /// <summary>The credential helper: git's own, which gives a password to the host that it is for and to no other.</summary>
    public string Helper => $"store --file={Quoted(Path.Combine(folder, "credentials"))}";

    /// <summary>
    /// ssh without the operator's own settings, keys and agent. An admin can pin hosts in /etc/ssh/ssh_known_hosts.
    /// </summary>
    public string Ssh => "ssh -F /dev/null -o BatchMode=yes -o ConnectTimeout=15 -o StrictHostKeyChecking=accept-new -o UpdateHostKeys=no "
        + $"-o UserKnownHostsFile={Quoted(knownHosts)} -o IdentitiesOnly=yes -o IdentityAgent=none -o IdentityFile={(key is null ? "none" : Quoted(key))}";

    /// <summary>An address without its credentials, which the helper has.</summary>
    public static string Bare(string url) => IsHttp(url) && new Uri(url).UserInfo.Length > 0
        ? new UriBuilder(url) { UserName = "", Password = "" }.Uri.AbsoluteUri : url;

    public void Dispose()
    {
        if (Directory.Exists(folder))
            Directory.Delete(folder, recursive: true);
    }

    /// <summary>A line for each host, in the form of git-credential-store. Passwords go over https, but where the app's own address says http.</summary>
    private static string Credentials(string url, GitAccess? access)
    {
        var lines = new StringBuilder();
        var uri = IsHttp(url) ? new Uri(url) : null;
        if (uri?.UserInfo is { Length: > 0 } info)
        {
            var colon = info.IndexOf(':', StringComparison.Ordinal);
            var (user, password) = colon < 0 ? (info, "") : (info[..colon], info[(colon + 1)..]);
            Add(uri.Scheme, Uri.UnescapeDataString(user), Uri.UnescapeDataString(password), uri.Authority);
        }
        foreach (var known in access?.Passwords ?? [])
        {
            Add("https", known.Username, known.Password, known.Host);
            if (uri?.Scheme == "http" && uri.Authority == known.Host)
                Add("http", known.Username, known.Password, known.Host);
        }
        return lines.ToString();

        void Add(string scheme, string user, string password, string host) =>
            lines.Append($"{scheme}://{Uri.EscapeDataString(user)}:{Uri.EscapeDataString(password)}@{host}\n");
    }

    private static bool IsHttp(string url) =>
        url.StartsWith("http://", StringComparison.OrdinalIgnoreCase) || url.StartsWith("https://", StringComparison.OrdinalIgnoreCase);

    private static string Quoted(string path) => $"'{path.Replace("'", @"'\''", StringComparison.Ordinal)}'";

    private static void Write(string path, string text)
    {
        using var file = new FileStream(path, new FileStreamOptions
        {
            Mode = FileMode.CreateNew, Access = FileAccess.Write, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        });
        file.Write(Encoding.UTF8.GetBytes(text));
    }
}
