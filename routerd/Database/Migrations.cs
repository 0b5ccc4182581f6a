using System.Reflection;
using DbUp;
using DbUp.Engine;

namespace Appoxy.Routerd.Database;

/// <summary>Brings the schema to what this routerd needs, by the numbered SQL files beside this one.</summary>
internal static class Migrations
{
    /// <summary>Applies what is missing, each file in a transaction of its own; does nothing when all is there.</summary>
    /// <exception cref="InvalidOperationException">A file failed; it was rolled back, and those before it stand.</exception>
    public static void Apply(string postgres)
    {
        var result = DeployChanges.To.PostgresqlDatabase(postgres)
            .WithScriptsEmbeddedInAssembly(Assembly.GetExecutingAssembly(), name => name.EndsWith(".sql", StringComparison.Ordinal))
            .WithTransactionPerScript()
            .WithExecutionTimeout(TimeSpan.FromMinutes(5))
            .LogToConsole()
            .Build()
            .PerformUpgrade();
        if (!result.Successful)
            throw new InvalidOperationException($"{result.ErrorScript?.Name}: {result.Error.Message}", result.Error);
    }
}
