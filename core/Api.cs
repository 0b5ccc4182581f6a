namespace Appoxy;

/// <summary>A page of a list.</summary>
/// <param name="Items">What is on it.</param>
/// <param name="Next">Asks for the next page as <c>?after=</c>; null on the last one, and in lists that have only one.</param>
public sealed record Page<T>(IReadOnlyList<T> Items, string? Next = null);

/// <summary>An app as the API shows it.</summary>
public sealed record App
{
    public required string Name { get; init; }
    public required string Uid { get; init; }

    /// <summary>Where visitors find it.</summary>
    public required string Url { get; init; }

    /// <summary>Where <c>git push</c> deploys it.</summary>
    public string? GitUrl { get; init; }

    /// <summary>The user's email, or the team's name; null where that user is gone.</summary>
    public string? Owner { get; init; }

    /// <summary>What one may do with it: <c>view</c>, <c>deploy</c>, <c>manage</c> or <c>owner</c>.</summary>
    public string? Role { get; init; }

    /// <summary>The droid-server that it is placed on.</summary>
    public required string Server { get; init; }
    public required IReadOnlyList<string> Domains { get; init; }
    public required AppSettings Settings { get; init; }

    /// <summary>Its way to another droid-server; null where it is on none.</summary>
    public AppMove? Move { get; init; }

    /// <summary>The newest deployment; null before the first.</summary>
    public Deployment? Deployment { get; init; }
    public required DateTimeOffset CreatedAt { get; init; }
}

/// <summary>An app's settings as users write them (<c>5m</c>, <c>256m</c>); null keeps what is.</summary>
public sealed record AppSettings
{
    public string? PauseAfter { get; init; }
    public string? SnoozeAfter { get; init; }
    public string? StartTimeout { get; init; }

    /// <summary>A path that must answer 2xx or 3xx, or <c>tcp</c> for a TCP accept.</summary>
    public string? Health { get; init; }
    public string? Memory { get; init; }
    public string? Cpus { get; init; }

    /// <summary>How many processes and threads it may have.</summary>
    public string? Pids { get; init; }

    /// <summary>How much it may write beside its volumes.</summary>
    public string? Disk { get; init; }

    /// <summary><c>on</c>: it may write to its volumes and to /tmp alone.</summary>
    public string? ReadOnly { get; init; }

    /// <summary>The port that the app listens on, or <c>auto</c>.</summary>
    public string? Port { get; init; }

    /// <summary>Images of buildpacks to build with, separated by commas, or <c>none</c>.</summary>
    public string? Buildpacks { get; init; }

    /// <summary>Whether the process types other than web sleep and wake with it: <c>on</c> or <c>off</c>.</summary>
    public string? SnoozeWorkers { get; init; }

    /// <summary><c>hold</c>: visitors of a sleeping app wait until it is awake; <c>page</c>: browsers get a page meanwhile.</summary>
    public string? Wake { get; init; }

    /// <summary>When it does not sleep: <see cref="AwakeWindow"/>s separated by commas, or <c>off</c>.</summary>
    public string? KeepAwake { get; init; }

    /// <summary>The branch whose pushes are deployed, or <c>auto</c> for main, else master.</summary>
    public string? Branch { get; init; }

    /// <summary>What it asks of the droid-server that it is placed on, as <c>zone=eu,disk!=slow</c>, or <c>none</c>; see <see cref="Labels"/>.</summary>
    public string? Constraint { get; init; }

    /// <summary>Whether it is placed elsewhere when its droid-server is down, unless it has volumes: <c>on</c> or <c>off</c>.</summary>
    public string? MoveWhenDown { get; init; }
}

/// <summary>
/// How many of a process type run: the answer of <c>/v1/apps/{app}/scale</c> for each type, whose body is type → count.
/// </summary>
/// <param name="Type">The type, as <c>web</c>.</param>
/// <param name="Count">How many are wanted.</param>
/// <param name="Running">How many run; those that sleep do not.</param>
/// <param name="Command">What it runs; null for the image's own command, and while that is not known.</param>
/// <param name="Error">Why one of them could not be started; null if none failed.</param>
public sealed record ProcessScale(string Type, int Count, int Running, string? Command, string? Error = null);

/// <summary>Body of <c>POST /v1/apps</c>.</summary>
/// <param name="Name">The app's name.</param>
/// <param name="Settings">Those that are not to be as by default.</param>
/// <param name="Team">The team that owns it; null for the caller.</param>
public sealed record NewApp(string? Name, AppSettings? Settings = null, string? Team = null);

/// <summary>Body of <c>POST /v1/apps/{app}/deployments</c>.</summary>
/// <param name="Source">What to build or run.</param>
/// <param name="Builder"><c>auto</c>, <c>dockerfile</c> or <c>pack:IMAGE</c>.</param>
/// <param name="Rebuild">Whether to build even where nothing has changed since an earlier deployment.</param>
public sealed record NewDeployment(DroidSource? Source, string? Builder = null, bool? Rebuild = null);

/// <summary>Body of <c>POST /v1/apps/{app}/rollback</c>; no number means the newest version that is another than the live one.</summary>
public sealed record NewRollback(int? Deployment = null);

/// <summary>One try to bring a version of an app to its visitors.</summary>
public sealed record Deployment
{
    public required int Number { get; init; }

    /// <summary>One of <see cref="DeploymentStates"/>.</summary>
    public required string State { get; init; }
    public string? Error { get; init; }

    /// <summary>One of <see cref="FailureReasons"/>, where it failed.</summary>
    public string? Reason { get; init; }

    /// <summary>Builds that come before it, while it is queued.</summary>
    public int? Ahead { get; init; }
    public string? Commit { get; init; }
    public required DroidSource Source { get; init; }
    public required string Builder { get; init; }

    /// <summary>The earlier deployment whose image it runs, where it is a roll-back.</summary>
    public int? RollbackTo { get; init; }
    public required DateTimeOffset CreatedAt { get; init; }
    public DateTimeOffset? FinishedAt { get; init; }
}

/// <summary>Body of <c>POST /v1/apps/{app}/domains</c>.</summary>
public sealed record NewDomain(string? Hostname);

/// <summary>Body of <c>POST /v1/apps/{app}/volumes</c>.</summary>
/// <param name="Name">See <see cref="VolumeRules.IsName"/>.</param>
/// <param name="Path">Where the app has it; null for <c>/NAME</c>.</param>
public sealed record NewVolume(string? Name, string? Path = null);

/// <summary>A volume of an app.</summary>
/// <param name="Name">Its name within the app.</param>
/// <param name="Path">Where the app has it.</param>
/// <param name="CreatedAt">When it was asked for.</param>
/// <param name="Bytes">What it holds; null while its droid-server does not answer.</param>
public sealed record Volume(string Name, string Path, DateTimeOffset CreatedAt, long? Bytes = null);

/// <summary>A hostname that an app is served at.</summary>
public sealed record Domain(string Hostname, DateTimeOffset CreatedAt);

/// <summary>
/// What the global nginx does with requests for an app before they reach it, as users write it: the answer and the body of
/// <c>/v1/apps/{app}/routing</c>. Null or absent keeps what is, <c>off</c> clears; see <see cref="RoutingOption"/> for the rules.
/// </summary>
public sealed record AppRouting
{
    public string? ForceHttps { get; init; }
    public string? Www { get; init; }
    public string? Maintenance { get; init; }
    public string? MaintenancePage { get; init; }
    public string? ErrorPage { get; init; }

    /// <summary>The users who may come in, as <c>alice,bob</c>; each has a password, or gets it by <see cref="Passwords"/>.</summary>
    public string? Auth { get; init; }

    /// <summary>User → new password. In bodies only: no answer has them.</summary>
    public Dictionary<string, string>? Passwords { get; init; }
    public string? AllowIps { get; init; }
    public string? MaxBody { get; init; }
    public string? ReadTimeout { get; init; }
    public string? SendTimeout { get; init; }
    public string? RateLimit { get; init; }
    public string? Canary { get; init; }

    /// <summary>Name → value, set on each answer of the app in place of its own. In a body an empty value removes one.</summary>
    public Dictionary<string, string>? ResponseHeaders { get; init; }
}

/// <summary>A droid-server as the API shows it.</summary>
public sealed record Server
{
    public required string Name { get; init; }

    /// <summary>Where routerd finds its droidd: <c>unix:/path</c> or <c>https://host:port</c>.</summary>
    public required string Address { get; init; }

    /// <summary>Whether it answers now.</summary>
    public required bool Up { get; init; }
    public required int Apps { get; init; }

    /// <summary><c>up</c>, <c>down</c>, <c>draining</c>, or <c>drained</c>: then it can be removed.</summary>
    public string State { get; set; } = "up";

    /// <summary>Since when it counts as down; null while it does not.</summary>
    public DateTimeOffset? DownSince { get; init; }
    public Dictionary<string, string> Labels { get; set; } = [];

    /// <summary>How many of its apps are on their way to another server.</summary>
    public int Moving { get; init; }

    /// <summary>The memory that its apps may use together, by their limits.</summary>
    public long ReservedBytes { get; init; }

    /// <summary>The memory that it has; null while it was never heard of.</summary>
    public long? MemoryBytes { get; init; }

    /// <summary>Apps that have to leave it, but can't.</summary>
    public IReadOnlyList<StuckApp> Stuck { get; set; } = [];

    /// <summary>What an admin should know of it.</summary>
    public string? Note { get; init; }
    public ServerStatus? Status { get; init; }

    /// <summary>When it was last known to be well.</summary>
    public DateTimeOffset? LastSeen { get; init; }

    /// <summary>When its certificate ends, which it renews well before; null for one that needs none, or whose was revoked.</summary>
    public DateTimeOffset? CertificateEnds { get; init; }

    /// <summary>How many seconds its clock is ahead of routerd's; null where it sends no heartbeats.</summary>
    public double? ClockAhead { get; init; }
}

/// <summary>Body of <c>POST /v1/servers/join-tokens</c>.</summary>
/// <param name="Name">What the machine will be called; null for the next free name.</param>
/// <param name="Role"><c>droid-server</c> or <c>proxy</c>; null for the first.</param>
/// <param name="Expires">For how long it lets the machine in, as <c>1h</c>, which null stands for.</param>
public sealed record NewJoinToken(string? Name = null, string? Role = null, string? Expires = null);

/// <summary>A join token, shown once: what <c>provision.sh --join</c> takes on the new machine.</summary>
public sealed record IssuedJoinToken(string Token, string Name, string Role, DateTimeOffset ExpiresAt);

/// <summary>Answer of <c>POST /v1/servers/{name}/revoke</c>.</summary>
/// <param name="Name">Whose certificates are refused from now on.</param>
/// <param name="Certificates">How many there were.</param>
public sealed record RevokedServer(string Name, int Certificates);

/// <summary>An app that has to leave its droid-server, and why it can't.</summary>
public sealed record StuckApp(string App, string Why);

/// <summary>Body of <c>PATCH /v1/servers/{name}</c>: labels to set; an empty value removes one.</summary>
public sealed record ServerChange(Dictionary<string, string>? Labels = null);

/// <summary>Body of <c>POST /v1/servers/{name}/drain</c>.</summary>
/// <param name="WithVolumes">Whether apps with volumes leave, too: each is stopped while its volumes are copied.</param>
public sealed record NewDrain(bool? WithVolumes = null);

/// <summary>Body of <c>POST /v1/apps/{app}/move</c>.</summary>
/// <param name="Server">Where to; null for where placement says.</param>
/// <param name="Volumes">
/// Of an app that has some: <c>copy</c> stops it while they are copied, <c>lose</c> has them begin empty, <c>none</c> refuses.
/// </param>
public sealed record NewMove(string? Server = null, string? Volumes = null);

/// <summary>An app's way to another droid-server.</summary>
/// <param name="From">Where it serves until it is ready there.</param>
/// <param name="To">Where to; null where no server takes it.</param>
/// <param name="Reason"><c>asked</c>, <c>drain</c>, <c>down</c> or <c>rebalance</c>.</param>
/// <param name="State"><c>waiting</c>, <c>copying</c>, <c>starting</c>, or <c>failed</c>; once it is there, the app has no move.</param>
/// <param name="Since">Since when it is in this state.</param>
/// <param name="CopiedBytes">What has come over of images and volumes.</param>
/// <param name="Error">Why it failed, or what it waits for.</param>
public sealed record AppMove(string From, string? To, string Reason, string State, DateTimeOffset Since, long? CopiedBytes = null, string? Error = null);

/// <summary>A move that evens out the droid-servers.</summary>
public sealed record PlannedMove(string App, string From, string To)
{
    [System.Text.Json.Serialization.JsonIgnore]
    public string? Uid { get; init; }
}

/// <summary>How a host comes to its app, step by step: the answer of <c>GET /v1/routes/{host}</c>.</summary>
public sealed record RouteExplanation(string Host, string Outcome, IReadOnlyList<RouteStep> Steps);

/// <summary>One step of a route's decision.</summary>
/// <param name="Source">
/// <c>postgres</c>, <c>redis</c>, <c>global nginx</c>, <c>options</c>, <c>template</c>, <c>droidd</c>.
/// </param>
/// <param name="Found">What it says; null if nothing.</param>
/// <param name="Note">What follows.</param>
public sealed record RouteStep(string Source, string? Found, string Note);

/// <summary>A template as the API shows it.</summary>
public sealed record NginxTemplate
{
    public required string Name { get; init; }

    /// <summary>The text that holds: the admin's, or the shipped one.</summary>
    public required string Text { get; init; }

    /// <summary>Whether an admin's text stands in place of the shipped one.</summary>
    public required bool Overridden { get; init; }

    /// <summary>The number of the version that holds; 0 for the shipped text, null while a changed file has none yet.</summary>
    public int? Version { get; init; }
}

/// <summary>Body of <c>POST /v1/templates/{name}/preview</c>.</summary>
public sealed record TemplateText(string? Text);

/// <summary>Body of droidd's <c>POST /template/test</c>; no text means the shipped one.</summary>
public sealed record TemplateTest(string Name, string? Text = null);

/// <summary>What a template would become.</summary>
/// <param name="Nginx"><c>global</c> or <c>local</c>.</param>
/// <param name="Rendered">What it renders to; empty where it does not.</param>
/// <param name="Diff">A unified diff against what serves; empty where nothing changes.</param>
/// <param name="Error">What Scriban or <c>nginx -t</c> says against it; null if nothing.</param>
public sealed record TemplatePreview(string Nginx, string Rendered, string Diff, TemplateError? Error = null);

/// <summary>Body of <c>POST /v1/templates/{name}/activate</c>: a new text, or the number of an older version; 0 is the shipped text.</summary>
public sealed record TemplateActivation(string? Text = null, int? Version = null);

/// <summary>A template that is served by.</summary>
/// <param name="Name">The template's file name.</param>
/// <param name="Version">The number of its newest version; 0 where it was never changed.</param>
/// <param name="Nginxes">The nginxes of the proxy that was asked, and what they serve now.</param>
/// <param name="Waiting">Other proxies that have not taken it yet, because they are away or slow; they will when they can.</param>
public sealed record ActivatedTemplate(string Name, int Version, IReadOnlyList<TemplateStatus> Nginxes, IReadOnlyList<string> Waiting);

/// <summary>One change of a template's override.</summary>
/// <param name="Number">From 1, for each template.</param>
/// <param name="By">
/// The admin's email, or <c>file</c> where the file was edited on a machine; behind the email which proxy refused it, where it was
/// undone.
/// </param>
/// <param name="At">When.</param>
/// <param name="Sha">SHA-256 of the text; null where the override was removed.</param>
/// <param name="Diff">A unified diff to the version before, for the first one to the shipped text.</param>
public sealed record TemplateVersion(int Number, string By, DateTimeOffset At, string? Sha, string Diff);

/// <summary>
/// Body of <c>POST /v1/tokens</c>: email and password, or code and verifier, for a token that may all its user may; else, sent with a
/// token, what the new one may.
/// </summary>
/// <param name="Email">Of the user who signs in.</param>
/// <param name="Password">Secret.</param>
/// <param name="Name">By which the user knows it again.</param>
/// <param name="Scope"><c>read</c>, <c>deploy</c>, <c>write</c> or <c>admin</c>; each includes those before it.</param>
/// <param name="App">The only app that it is for; null for all.</param>
/// <param name="Expires">After how long it ends, as <c>90d</c>, or <c>never</c>; null for a year.</param>
/// <param name="Code">What a sign-in by a browser ended with.</param>
/// <param name="Verifier">Secret: that of which the SHA-256, as base64url, was the sign-in's challenge.</param>
public sealed record NewToken(
    string? Email = null, string? Password = null, string? Name = null, string? Scope = null, string? App = null, string? Expires = null,
    string? Code = null, string? Verifier = null);

/// <summary>A token, shown once.</summary>
public sealed record IssuedToken(string Token, string Name)
{
    public long? Id { get; init; }
    public string? Scope { get; init; }
    public string? App { get; init; }
    public DateTimeOffset? ExpiresAt { get; init; }
}

/// <summary>A token as lists show it.</summary>
/// <param name="Id">By which it is revoked.</param>
/// <param name="Name">As its user gave it.</param>
/// <param name="Kind"><c>token</c>, <c>sign-in</c> or <c>session</c>.</param>
/// <param name="Scope"><c>read</c>, <c>deploy</c>, <c>write</c>, <c>admin</c>, or <c>all</c> that its user may.</param>
/// <param name="App">The only app that it is for; null for all.</param>
/// <param name="CreatedAt">When it was made.</param>
/// <param name="LastUsedAt">To ten minutes; null before its first use.</param>
/// <param name="ExpiresAt">When it ends; null for never.</param>
/// <param name="Current">Whether it is the one that was sent.</param>
public sealed record Token(
    long Id, string Name, string Kind, string Scope, string? App, DateTimeOffset CreatedAt, DateTimeOffset? LastUsedAt,
    DateTimeOffset? ExpiresAt, bool Current);

/// <summary>Body of <c>POST /v1/session</c>: signs a browser in.</summary>
public sealed record NewSession(string? Email = null, string? Password = null);

/// <summary>Who one is: the answer of <c>/v1/account</c>.</summary>
/// <param name="Email">Of the user.</param>
/// <param name="Role"><c>admin</c> or <c>member</c>.</param>
/// <param name="Scope">As far as the token and the role reach.</param>
/// <param name="Token">The token's name.</param>
/// <param name="App">The only app that it is for; null for all.</param>
/// <param name="Teams">The teams that one is in.</param>
/// <param name="Quota">What one may have.</param>
/// <param name="Usage">What one has of it.</param>
public sealed record Account(
    string Email, string Role, string Scope, string? Token = null, string? App = null, IReadOnlyList<string>? Teams = null,
    Quota? Quota = null, Quota? Usage = null);

/// <summary>Body of <c>PUT /v1/account/password</c>.</summary>
public sealed record NewPassword(string? Current = null, string? Password = null);

/// <summary>
/// What a user or a team may have in all its apps together, or has of it. <c>unlimited</c> is no bound; in a change, null keeps what is
/// and <c>default</c> goes back to routerd's settings.
/// </summary>
public sealed record Quota
{
    /// <summary>How many apps.</summary>
    public string? Apps { get; init; }

    /// <summary>All that the apps' processes may use at once, as <c>8g</c>.</summary>
    public string? Memory { get; init; }

    /// <summary>The same of processors, as <c>4</c>.</summary>
    public string? Cpus { get; init; }

    /// <summary>How many builds at once.</summary>
    public string? Builds { get; init; }

    /// <summary>How many builds in 24 hours.</summary>
    public string? BuildsPerDay { get; init; }

    /// <summary>How many teams a user may own.</summary>
    public string? Teams { get; init; }
}

/// <summary>A user, as admins see one.</summary>
/// <param name="Email">By which one signs in.</param>
/// <param name="Role"><c>admin</c> or <c>member</c>.</param>
/// <param name="State"><c>active</c>, <c>invited</c> or <c>disabled</c>.</param>
/// <param name="Apps">How many one owns.</param>
/// <param name="CreatedAt">When one was invited.</param>
/// <param name="LastSeenAt">When a token of theirs was last used, to ten minutes.</param>
/// <param name="Teams">The teams that one is in; shown of one user alone, as what follows.</param>
/// <param name="Quota">What one may have.</param>
/// <param name="Usage">What one has of it.</param>
/// <param name="Providers">The OpenID Connect providers by which one has signed in.</param>
public sealed record User(
    string Email, string Role, string State, int Apps, DateTimeOffset CreatedAt, DateTimeOffset? LastSeenAt,
    IReadOnlyList<string>? Teams = null, Quota? Quota = null, Quota? Usage = null, IReadOnlyList<string>? Providers = null);

/// <summary>Body of <c>POST /v1/users</c>.</summary>
public sealed record NewUser(string? Email = null, string? Role = null);

/// <summary>Body of <c>PATCH /v1/users/{email}</c>; null keeps what is.</summary>
public sealed record UserChange(string? Role = null, bool? Disabled = null, Quota? Quota = null);

/// <summary>What lets a user set a password, once; shown once.</summary>
public sealed record Invitation(string Email, string Token, DateTimeOffset ExpiresAt);

/// <summary>Body of <c>POST /v1/invitations/accept</c>.</summary>
public sealed record AcceptedInvitation(string? Token = null, string? Password = null);

/// <summary>A user who may do something with another's app.</summary>
/// <param name="Email">Who.</param>
/// <param name="Role"><c>view</c>, <c>deploy</c>, <c>manage</c> or <c>owner</c>; each includes those before it.</param>
/// <param name="Team">The team that it comes by; null for none.</param>
public sealed record Collaborator(string? Email = null, string? Role = null, string? Team = null);

/// <summary>A team, and in a body its name.</summary>
public sealed record Team
{
    public string? Name { get; init; }
    public int? Apps { get; init; }

    /// <summary>Shown of one team alone, as what follows.</summary>
    public IReadOnlyList<Collaborator>? Members { get; init; }
    public Quota? Quota { get; init; }
    public Quota? Usage { get; init; }
}

/// <summary>Body of <c>POST /v1/apps/{app}/transfer</c>: one of both.</summary>
public sealed record NewOwner(string? Email = null, string? Team = null);

/// <summary>One entry of the audit log.</summary>
/// <param name="Id">Rises with time.</param>
/// <param name="At">When.</param>
/// <param name="User">Whose token was used; null where there was none.</param>
/// <param name="Token">The token's name.</param>
/// <param name="Operation">What was asked for, as <c>POST /v1/apps/{app}/rollback</c>.</param>
/// <param name="Target">Of what, or what came of it.</param>
/// <param name="Client">The address that asked.</param>
/// <param name="Status">The HTTP answer; null where it is under way, or routerd ended over it.</param>
/// <param name="Detail">Names of what was changed.</param>
public sealed record AuditItem(
    long Id, DateTimeOffset At, string? User, string? Token, string Operation, string Target, string? Client, int? Status, string? Detail);

/// <summary>Body of <c>POST /v1/apps/{app}/webhooks</c>. Without a URL it is that of the newest deployment from git.</summary>
/// <param name="Url">The repository to deploy from.</param>
/// <param name="Branch">The branch whose pushes deploy; main where it is null.</param>
public sealed record NewWebhook(string? Url = null, string? Branch = null);

/// <summary>A webhook for pushes to GitHub, GitLab or Gitea.</summary>
public sealed record Webhook
{
    public required string Id { get; init; }

    /// <summary>Where the git host is to send its pushes.</summary>
    public required string Url { get; init; }

    /// <summary>Shown once, when it is made.</summary>
    public string? Secret { get; init; }

    /// <summary>The repository that is deployed from, without its password.</summary>
    public required string Source { get; init; }
    public required string Branch { get; init; }
    public required DateTimeOffset CreatedAt { get; init; }
    public DateTimeOffset? LastAt { get; init; }

    /// <summary>What became of the last delivery that was signed right.</summary>
    public string? LastResult { get; init; }
}

/// <summary>What became of a webhook's delivery.</summary>
public sealed record WebhookAnswer(string Result);

/// <summary>The key by which an app's builds read private repositories over ssh.</summary>
/// <param name="PublicKey">For the git host, in the form of <c>authorized_keys</c>.</param>
/// <param name="CreatedAt">When it was made.</param>
public sealed record DeployKey(string PublicKey, DateTimeOffset CreatedAt);

/// <summary>Body of <c>PUT /v1/apps/{app}/git-auth/{host}</c>: what opens private repositories there over https.</summary>
public sealed record NewGitAuth(string? Username, string? Password);

/// <summary>A git host for which a password is kept; no answer has it.</summary>
public sealed record GitAuth(string Host, string Username, DateTimeOffset CreatedAt);

/// <summary>A key that secrets are encrypted with.</summary>
/// <param name="Id">Its id.</param>
/// <param name="MadeAt">When it was made; null where the key file lacks it.</param>
/// <param name="Values">How many values it encrypts.</param>
/// <param name="Newest">Whether new values are encrypted with it.</param>
public sealed record SecretKeyUse(string Id, DateTimeOffset? MadeAt, long Values, bool Newest);

/// <summary>What one look of the doctor found.</summary>
/// <param name="Check">What was looked at, as <c>redis</c>.</param>
/// <param name="Fault">What is wrong; null if nothing.</param>
/// <param name="Fix">What to do about it.</param>
public sealed record Finding(string Check, string? Fault = null, string? Fix = null)
{
    /// <summary>The droid-server or proxy that it is about; null for what there is once.</summary>
    public string? Server { get; init; }
}

/// <summary>A droid-server's part of what the doctor finds: the answer of droidd's <c>GET /doctor</c>.</summary>
/// <param name="Now">Its clock.</param>
/// <param name="Findings">Without <see cref="Finding.Server"/>.</param>
public sealed record DroidServerFindings(DateTimeOffset Now, IReadOnlyList<Finding> Findings);
