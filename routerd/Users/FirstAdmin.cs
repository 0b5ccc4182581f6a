using System.Text;
using Appoxy.Routerd.Database;
using Npgsql;

namespace Appoxy.Routerd.Users;

/// <summary>
/// The verb <c>admin</c>: an admin with a generated password and a token, each in a file that only its owner can read. The files
/// are written first and read when they are there, so that it can be killed anywhere and run again.
/// </summary>
internal static class FirstAdmin
{
    public static async Task<int> CreateAsync(NpgsqlDataSource db, CommandLine command)
    {
        if (!SignIn.IsEmail(command.Email))
            return Fail($"'{command.Email}' is no email address");
        using var bound = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        try
        {
            var hadPassword = File.Exists(command.PasswordFile);
            var password = await ReadOrWriteAsync(command.PasswordFile, Secrets.NewPassword, bound.Token);
            var token = await ReadOrWriteAsync(command.TokenFile, Secrets.NewToken, bound.Token);
            if (!token.StartsWith(Secrets.TokenPrefix, StringComparison.Ordinal))
                return Fail($"{command.TokenFile} holds no token; remove it and run again");
            await StoreAsync(db, command.Email, password, resetPassword: !hadPassword, token, bound.Token);
            return 0;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NpgsqlException or OperationCanceledException)
        {
            return Fail($"can't create the admin: {e.Message}");
        }
    }

    private static async Task StoreAsync(
        NpgsqlDataSource db, string email, string password, bool resetPassword, string token, CancellationToken cancel)
    {
        await using var connection = await db.OpenConnectionAsync(cancel);
        await using var transaction = await connection.BeginTransactionAsync(cancel);
        var values = new { email, hash = Secrets.HashPassword(password), resetPassword, token = Secrets.HashToken(token) };
        // A password that was changed later stays, unless its file was removed in order to get a new one.
        await connection.RunAsync("""
            insert into users (email, password_hash, role) values (@email, @hash, 'admin')
            on conflict (lower(email)) do update
              set role = 'admin', password_hash = case when @resetPassword then excluded.password_hash else users.password_hash end
            """, values, cancel);
        await connection.RunAsync("""
            insert into tokens (user_id, name, hash) select id, 'first admin', @token from users where lower(email) = lower(@email)
            on conflict (hash) do nothing
            """, values, cancel);
        await transaction.CommitAsync(cancel);
    }

    private static async Task<string> ReadOrWriteAsync(string path, Func<string> make, CancellationToken cancel)
    {
        if (File.Exists(path))
            return (await File.ReadAllTextAsync(path, cancel)).Trim();
        var text = make();
        var next = path + ".next";
        File.Delete(next);
        await using (var file = new FileStream(next, new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        }))
        {
            await file.WriteAsync(Encoding.UTF8.GetBytes(text + "\n"), cancel);
            file.Flush(flushToDisk: true);
        }
        File.Move(next, path);
        return text;
    }

    private static int Fail(string fault)
    {
        System.Console.Error.WriteLine($"routerd: {fault}");
        return 1;
    }
}
