using System.CommandLine;
using Appoxy.Cli;

Output.Open();
var root = new RootCommand("Deploys apps to Appoxy and looks after them.")
{
    Verb.Json,
    Apps.Define(),
    Deploy.Define(),
    Deployments.Define(),
    Rollback.Define(),
    Ps.Define(),
    Scale.Define(),
    Move.Define(),
    Logs.Define(),
    DroidActions.Define("start", "Starts an app that was stopped."),
    DroidActions.Define("stop", "Stops an app until it is started again; visits do not wake it."),
    DroidActions.Define("restart", "Starts an app's container anew."),
    DroidActions.Define("snooze", "Puts an app to sleep now; the next visit wakes it."),
    DroidActions.Define("wake", "Wakes an app and waits until it is ready."),
    Settings.Define(),
    Routing.Define(),
    Env.Define(),
    Git.Define(),
    Webhooks.Define(),
    DeployKeys.Define(),
    GitAuths.Define(),
    Domains.Define(),
    Volumes.Define(),
    Servers.Define(),
    Templates.Define(),
    Route.Define(),
    Open.Define(),
    Completion.Define(),
    Login.Define(),
    Accounts.WhoAmI(),
    Accounts.Password(),
    Tokens.Define(),
    Users.Define(),
    Collaborators.Define(),
    Teams.Define(),
    Audits.Define(),
};
return await CommandLine.RunAsync(root, args);
