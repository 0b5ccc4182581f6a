using Appoxy.Routerd.Database;
using Microsoft.AspNetCore.Http.HttpResults;
using Npgsql;

namespace Appoxy.Routerd.Sealing;

/// <summary><c>/v1/secrets/keys</c>, for admins: which keys there are and how much each seals; a new one; one that is not needed any more.</summary>
internal static class SecretEndpoints
{
    // A change that was sealed before the newest key came has long been stored, or was given up.
    private static readonly TimeSpan Settled = TimeSpan.FromMinutes(1);

    public static void MapSecrets(this RouteGroupBuilder v1)
    {
        var group = v1.MapGroup("/secrets/keys").RequireAuthorization(Api.Admins);
        group.MapGet("", ListAsync);
        group.MapPost("", RotateAsync);
        group.MapDelete("/{id}", RemoveAsync);
    }

    private static async Task<Ok<Page<SecretKeyUse>>> ListAsync(NpgsqlDataSource db, SecretKeys keys, CancellationToken cancel)
    {
        var held = keys.Exists ? keys.All : [];
        var uses = await CountAsync(db, cancel);
        var unknown = uses.Keys.Where(id => held.All(k => k.Id != id)).Order(StringComparer.Ordinal).Select(id => new SecretKeyUse(id, null, uses[id], false));
        return TypedResults.Ok(new Page<SecretKeyUse>([.. unknown, .. held.Select((k, i) => new SecretKeyUse(
            k.Id, k.MadeAt, uses.GetValueOrDefault(k.Id), i == held.Count - 1))]));
    }

    private static async Task<Created<SecretKeyUse>> RotateAsync(NpgsqlDataSource db, SecretKeys keys, Resealing resealing, CancellationToken cancel)
    {
        var known = keys.All.Select(k => k.Id).ToList();
        if ((await CountAsync(db, cancel)).Keys.FirstOrDefault(id => !known.Contains(id)) is { } lacking)
            throw keys.Fault($"has no key {lacking}, which secrets are sealed with");
        var key = keys.Add();
        resealing.Wake();
        return TypedResults.Created($"/v1/secrets/keys/{key.Id}", new SecretKeyUse(key.Id, key.MadeAt, 0, true));
    }

    private static async Task<NoContent> RemoveAsync(
        string id, NpgsqlDataSource db, SecretKeys keys, Resealing resealing, TimeProvider time, CancellationToken cancel)
    {
        if (keys.Find(id) is null)
            throw Problem.NotFound("There is no such key.");
        var newest = keys.Newest;
        if (newest.Id == id)
            throw Problem.Conflict("This is the key that seals now; add another one first: appoxy secrets rotate");
        if (time.GetUtcNow() - newest.MadeAt < Settled)
            throw Problem.Conflict("The newest key is less than a minute old, and what is being stored may still be sealed with this one. Try again in a minute.");
        if ((await CountAsync(db, cancel)).GetValueOrDefault(id) is > 0 and var left)
        {
            resealing.Wake();
            throw Problem.Conflict($"{left} secrets are still sealed with this key; they are being sealed anew. Try again in a moment.");
        }
        keys.Remove(id);
        return TypedResults.NoContent();
    }

    /// <summary>Key id → how many values are sealed with it.</summary>
    public static async Task<Dictionary<string, long>> CountAsync(NpgsqlDataSource db, CancellationToken cancel)
    {
        var all = string.Join(" union all ", SealedColumn.All.Select(c => $"select {c.KeyId} as id from {c.Table} where {c.Name} is not null"));
        return (await db.ListAsync<(string Id, long Count)>($"select id, count(*) from ({all}) s group by id", null, cancel))
            .ToDictionary(r => r.Id, r => r.Count);
    }
}
