using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy rollback</c>: lets an earlier version serve again, without a build.</summary>
internal static class Rollback
{
    public static Verb Define()
    {
        var name = Arguments.App();
        var number = new Argument<int?>("N")
        {
            Description = "The deployment whose image is to run again; else the newest that is another version",
            Arity = ArgumentArity.ZeroOrOne,
        };
        number.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && (!int.TryParse(token.Value, out var given) || given < 1))
                result.AddError(Arguments.UnknownOption(token.Value) ?? $"'{token.Value}' is no deployment's number");
        });
        return new Verb("rollback", "Lets an earlier version serve again, with the env and settings of now.",
            "appoxy rollback shop", "appoxy rollback shop 3") { name, number }
            .Does((call, cancel) => Deploy.FollowAsync(call, call.Get(name), () => call.Routerd.PostAsync<NewRollback, Deployment>(
                Routerd.App(call.Get(name), "rollback"), new NewRollback(call.Get(number)), cancel), cancel));
    }
}
