using System.Text.Json;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Deployments;
using Npgsql;

namespace Appoxy.Routerd.Sealing;

/// <summary>
/// The part of <c>routerd migrate</c> that SQL can't do: it makes the key file of a new install, and seals what versions before kept plain. All in
/// one transaction that ends with the plain columns dropped: an older routerd that still runs then fails, rather than to take an app's env for
/// empty. Then the tables are rewritten, since dead tuples and dropped columns stay in their files.
/// </summary>
internal static class PlainSecrets
{
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(10);

    /// <summary>What is wrong, or null; it is no reason not to start.</summary>
    public static async Task<string?> SealAsync(RouterdSettings settings)
    {
        using var bound = new CancellationTokenSource(Limit);
        var cancel = bound.Token;
        var keys = new SecretKeys(settings, TimeProvider.System);
        await using var db = NpgsqlDataSource.Create(
            new NpgsqlConnectionStringBuilder(Postgres.ConnectionString(settings)) { CommandTimeout = (int)Limit.TotalSeconds }.ConnectionString);
        if (!keys.Exists)
        {
            var any = string.Join(" or ", SealedColumn.All.Select(c => $"exists (select 1 from {c.Table} where {c.Name} is not null)"));
            if (await db.FirstAsync<bool>($"select {any}", null, cancel))
                return keys.Fault("is missing").Message;
            keys.Add();
        }
        if (await db.FirstAsync<bool>(
            "select exists (select 1 from information_schema.columns where table_schema = current_schema and table_name = 'apps' and column_name = 'env')",
            null, cancel))
        {
            await using var connection = await db.OpenConnectionAsync(cancel);
            await using var transaction = await connection.BeginTransactionAsync(cancel);
            await connection.RunAsync("lock table apps, git_passwords, deploy_keys, webhooks, deployments in access exclusive mode", null, cancel);
            await SealAsync(connection, new SecretBox(keys), cancel);
            await connection.RunAsync("""
                alter table apps drop column env;
                alter table git_passwords drop column password, alter column sealed_password set not null;
                alter table deploy_keys drop column private_key, alter column sealed_private_key set not null;
                alter table webhooks drop column secret, alter column sealed_secret set not null;
                """, null, cancel);
            await transaction.CommitAsync(cancel);
        }
        if (await db.FirstAsync<bool>("select vacuumed_at is null from sealing", null, cancel))
        {
            foreach (var table in new[] { "apps", "git_passwords", "deploy_keys", "webhooks", "deployments" })
                await db.RunAsync($"vacuum (full, analyze) {table}", null, cancel);
            await db.RunAsync("update sealing set vacuumed_at = now()", null, cancel);
        }
        return null;
    }

    private static async Task SealAsync(NpgsqlConnection db, SecretBox box, CancellationToken cancel)
    {
        foreach (var (uid, name, value) in await db.ListAsync<(string, string, string)>(
            "select uid, key, value from apps, jsonb_each_text(env) where value is not null", null, cancel))
            await db.RunAsync("insert into app_env (app_uid, name, sealed_value) values (@uid, @name, @sealed_)",
                new { uid, name, sealed_ = box.Seal(value, SealedColumn.Env, uid, name) }, cancel);
        foreach (var (uid, host, password) in await db.ListAsync<(string, string, string)>(
            "select app_uid, host, password from git_passwords", null, cancel))
            await db.RunAsync("update git_passwords set sealed_password = @sealed_ where app_uid = @uid and host = @host",
                new { uid, host, sealed_ = box.Seal(password, SealedColumn.GitPassword, uid, host) }, cancel);
        foreach (var (uid, key) in await db.ListAsync<(string, string)>("select app_uid, private_key from deploy_keys", null, cancel))
            await db.RunAsync("update deploy_keys set sealed_private_key = @sealed_ where app_uid = @uid",
                new { uid, sealed_ = box.Seal(key, SealedColumn.DeployKey, uid) }, cancel);
        foreach (var (id, uid, secret, url) in await db.ListAsync<(string, string, string, string)>(
            "select id, app_uid, secret, url from webhooks", null, cancel))
        {
            var (shown, sealedUrl) = Sources.Sealed(url, box, SealedColumn.WebhookUrl, id, uid);
            await db.RunAsync("update webhooks set sealed_secret = @sealed_, url = @shown, sealed_url = @sealedUrl where id = @id",
                new { id, sealed_ = box.Seal(secret, SealedColumn.WebhookSecret, id, uid), shown, sealedUrl }, cancel);
        }
        foreach (var (uid, number, text) in await db.ListAsync<(string, int, string)>(
            "select app_uid, number, source from deployments where source->'git'->>'url' like '%@%'", null, cancel))
        {
            var source = Postgres.FromJson(text, AppoxyJson.Default.DroidSource);
            var (shown, sealedUrl) = Sources.Sealed(source.Git!.Url, box, SealedColumn.DeploymentUrl, uid, $"{number}");
            if (sealedUrl is null)
                continue;
            await db.RunAsync("update deployments set source = @json::jsonb, sealed_url = @sealedUrl where app_uid = @uid and number = @number",
                new
                {
                    uid, number, sealedUrl,
                    json = JsonSerializer.Serialize(source with { Git = source.Git with { Url = shown } }, AppoxyJson.Default.DroidSource),
                }, cancel);
        }
    }
}
