namespace Appoxy.Routerd.Users;

/// <summary>How users sign in by OpenID Connect: the section <c>oidc</c> of <c>routerd.json</c>.</summary>
public sealed class OidcSettings
{
    private const string Invited = "invited";
    private const string All = "all";

    /// <summary>The provider, as it names itself: <c>https://id.example.com</c>. Without TLS only on this machine.</summary>
    public string Issuer { get; set; } = "";

    /// <summary>What the provider knows Appoxy as.</summary>
    public string ClientId { get; set; } = "";

    /// <summary>Holds the secret that the provider gave; empty where it gave none.</summary>
    public string ClientSecretFile { get; set; } = "";

    /// <summary>What the provider is asked for, separated by blanks.</summary>
    public string Scopes { get; set; } = "openid email profile";

    /// <summary>
    /// Who is an admin, as <c>groups=appoxy-admins</c>: those whose claim of this name has this value, and of those who sign in by the
    /// provider nobody else. Empty: the provider has no say in it.
    /// </summary>
    public string AdminClaim { get; set; } = "";

    /// <summary>
    /// Who may come in: <c>invited</c> for users that are there or were invited, <c>all</c> for whomever the provider knows, or those with an
    /// address of some domains, as <c>@example.com,@example.org</c>.
    /// </summary>
    public string LetIn { get; set; } = Invited;

    internal string[] ScopeList => Scopes.Split(' ', StringSplitOptions.RemoveEmptyEntries);

    /// <summary>Name and value; null where none is set.</summary>
    internal (string Name, string Value)? Admin => AdminClaim.Split('=', 2) is [{ Length: > 0 } name, { Length: > 0 } value] ? (name, value) : null;

    /// <summary>Null where there is none.</summary>
    internal string? ReadSecret() => ClientSecretFile.Length == 0 ? null : File.ReadAllText(ClientSecretFile).Trim();

    /// <summary>Whether one who was not invited becomes a user by signing in.</summary>
    internal bool LetsIn(string email) => LetIn == All
        || (LetIn != Invited && Domains.Any(d => email.EndsWith(d, StringComparison.OrdinalIgnoreCase)));

    private string[] Domains => LetIn.Split(',', StringSplitOptions.TrimEntries);

    internal IEnumerable<string> Faults()
    {
        if (!Uri.TryCreate(Issuer, UriKind.Absolute, out var issuer) || !(issuer.Scheme == "https" || (issuer.Scheme == "http" && issuer.IsLoopback))
            || issuer.Query.Length > 0 || issuer.Fragment.Length > 0)
            yield return $"oidc.issuer is '{Issuer}': give the provider's https URL such as https://id.example.com";
        if (ClientId.Length == 0)
            yield return "oidc.clientId is empty: give the id under which the provider knows Appoxy";
        if (ClientSecretFile.Length > 0 && SecretFault() is { } fault)
            yield return $"oidc.clientSecretFile is '{ClientSecretFile}': {fault}";
        if (!ScopeList.Contains("openid") || !ScopeList.Contains("email"))
            yield return $"oidc.scopes is '{Scopes}': give scopes separated by blanks, openid and email among them";
        if (AdminClaim.Length > 0 && Admin is null)
            yield return $"oidc.adminClaim is '{AdminClaim}': give a claim and its value such as groups=appoxy-admins";
        if (LetIn is not (Invited or All) && Domains.Any(d => d.Length < 2 || d[0] != '@' || !Names.TryNormalizeHost(d[1..], out _)))
            yield return $"oidc.letIn is '{LetIn}': give invited, all, or domains such as @example.com,@example.org";
    }

    private string? SecretFault()
    {
        if (!Path.IsPathFullyQualified(ClientSecretFile))
            return "give an absolute path";
        try
        {
            return ReadSecret() is { Length: > 0 } ? null : "it is empty; put the secret in it that the provider gave";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return $"it can't be read ({e.Message}); put the secret in it that the provider gave";
        }
    }
}
