namespace Appoxy.Routerd.Sealing;

/// <summary>A column of Postgres that holds envelopes of <see cref="SecretBox"/>.</summary>
/// <param name="Table">The table.</param>
/// <param name="Name">The column.</param>
/// <param name="Row">The columns that tell a row; their values, as text, are what an envelope is bound to.</param>
internal sealed record SealedColumn(string Table, string Name, params string[] Row)
{
    public static readonly SealedColumn Env = new("app_env", "sealed_value", "app_uid", "name");
    public static readonly SealedColumn GitPassword = new("git_passwords", "sealed_password", "app_uid", "host");
    public static readonly SealedColumn DeployKey = new("deploy_keys", "sealed_private_key", "app_uid");
    public static readonly SealedColumn WebhookSecret = new("webhooks", "sealed_secret", "id", "app_uid");
    public static readonly SealedColumn WebhookUrl = new("webhooks", "sealed_url", "id", "app_uid");
    public static readonly SealedColumn DeploymentUrl = new("deployments", "sealed_url", "app_uid", "number");

    public static readonly IReadOnlyList<SealedColumn> All = [Env, GitPassword, DeployKey, WebhookSecret, WebhookUrl, DeploymentUrl];

    /// <summary>SQL of the id, in hex, of the key that an envelope is sealed with.</summary>
    public string KeyId => $"encode(substring({Name} from 2 for {SecretBox.IdBytes}), 'hex')";
}
