using System.Diagnostics.CodeAnalysis;
using Appoxy.Routerd.Database;
using Appoxy.Routerd.Sealing;
using Npgsql;

namespace Appoxy.Routerd;

/// <summary>What routerd was started for: to run (no verb), <c>migrate</c>, <c>admin</c>, or <c>endpoints</c>, which lists them.</summary>
/// <param name="Verb">Empty, <c>migrate</c>, <c>admin</c> or <c>endpoints</c>.</param>
/// <param name="Config">Path of <c>routerd.json</c>.</param>
/// <param name="Email">Of the first admin.</param>
/// <param name="PasswordFile">Read if it is there, else written.</param>
/// <param name="TokenFile">Read if it is there, else written.</param>
internal sealed record CommandLine(string Verb, string Config, string Email, string PasswordFile, string TokenFile)
{
    private const string Usage = "usage: routerd [migrate | endpoints | admin --email E --password-file F --token-file F] [--config FILE]";

    public static bool TryParse(string[] args, [NotNullWhen(true)] out CommandLine? command, [NotNullWhen(false)] out string? fault)
    {
        (command, fault) = (null, null);
        var verb = args.Length > 0 && args[0] is "migrate" or "admin" or "endpoints" ? args[0] : "";
        var options = new Dictionary<string, string>(StringComparer.Ordinal) { ["--config"] = "/etc/appoxy/routerd.json" };
        for (var i = verb.Length > 0 ? 1 : 0; i < args.Length; i += 2)
        {
            if (args[i] is not ("--config" or "--email" or "--password-file" or "--token-file") || i + 1 == args.Length)
            {
                fault = $"can't read '{args[i]}'; {Usage}";
                return false;
            }
            options[args[i]] = args[i + 1];
        }
        if (!File.Exists(options["--config"]))
        {
            fault = $"there is no file {options["--config"]}; provision.sh writes it";
            return false;
        }
        if (verb == "admin" && options.Count < 4)
        {
            fault = Usage;
            return false;
        }
        command = new CommandLine(verb, Path.GetFullPath(options["--config"]), options.GetValueOrDefault("--email", ""),
            options.GetValueOrDefault("--password-file", ""), options.GetValueOrDefault("--token-file", ""));
        return true;
    }

    public static async Task<int> MigrateAsync(RouterdSettings settings)
    {
        try
        {
            Migrations.Apply(Postgres.ConnectionString(settings));
            if (await PlainSecrets.SealAsync(settings) is { } fault)
                await System.Console.Error.WriteLineAsync($"routerd: {fault}");
            return 0;
        }
        catch (Exception e) when (e is InvalidOperationException or NpgsqlException or OperationCanceledException)
        {
            await System.Console.Error.WriteLineAsync($"routerd: migration failed: {e.Message}");
            return 1;
        }
    }
}
