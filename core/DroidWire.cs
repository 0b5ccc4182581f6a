namespace Appoxy;

/// <summary>
/// What routerd wants of one app on one droid-server: the body of <c>PUT /droids/{uid}</c>. Whole, idempotent, ordered by
/// <see cref="Generation"/>. A change of <see cref="Deployment"/> builds anew; of <see cref="Env"/>, <see cref="Port"/> or
/// <see cref="Limits"/> replaces the containers from the same image; of <see cref="Formation"/> adds or removes some; of the rest
/// takes effect at once.
/// </summary>
/// <remarks>Members with a default are settable: source-generated JSON gives an absent init-only member no default.</remarks>
public sealed record DroidSpec
{
    /// <summary>The app's uid.</summary>
    public required string Uid { get; init; }

    /// <summary>The app's name, for logs and labels only.</summary>
    public required string App { get; init; }

    /// <summary>Grows with each change of what is wanted; an older one is refused with 409.</summary>
    public required long Generation { get; init; }

    /// <summary>The deployment's number within its app, from 1.</summary>
    public required int Deployment { get; init; }

    /// <summary>What to build or run.</summary>
    public required DroidSource Source { get; init; }

    /// <summary><c>auto</c>, <c>dockerfile</c>, or <c>pack:IMAGE</c>.</summary>
    public string Builder { get; set; } = "auto";

    /// <summary>Images of buildpacks to build with, in their order; with <c>auto</c> they go before a <c>Dockerfile</c>.</summary>
    public IReadOnlyList<string> Buildpacks { get; set; } = [];

    /// <summary>Whether to build even where nothing has changed since an earlier deployment.</summary>
    public bool Rebuild { get; init; }

    /// <summary>A roll-back: the earlier deployment whose image is to run again; nothing is fetched or built.</summary>
    public int? RollbackTo { get; init; }

    /// <summary>The span that the deployment belongs to, as a W3C traceparent; null where nothing is traced.</summary>
    public string? Trace { get; init; }

    /// <summary>The app's environment. Secret: never logged.</summary>
    public IReadOnlyDictionary<string, string> Env { get; set; } = new Dictionary<string, string>();

    /// <summary>The port that the app listens on (<c>$PORT</c>); null: the image's only exposed TCP port, else 7000.</summary>
    public int? Port { get; init; }

    /// <summary>Process type → how many of it run; of a type that it leaves out, see <see cref="Formations.CountOf"/>.</summary>
    public IReadOnlyDictionary<string, int> Formation { get; set; } = new Dictionary<string, int>();

    /// <summary>What one container may use.</summary>
    public DroidLimits Limits { get; set; } = new();

    /// <summary>What the app keeps over restarts and deployments; a change replaces the container.</summary>
    public IReadOnlyList<DroidVolume> Volumes { get; set; } = [];

    /// <summary>When the droid counts as ready and as idle.</summary>
    public DroidPolicy Policy { get; set; } = new();

    /// <summary><c>running</c> (may snooze) or <c>stopped</c>.</summary>
    public string Desired { get; set; } = DroidStates.Running;

    /// <summary>
    /// Whether a first release is made without starting it, so that its first visit does: for an app that moves here in its sleep.
    /// </summary>
    public bool? Asleep { get; init; }

    /// <summary>Whether <c>file://</c> and private addresses are allowed as git sources: set for admins.</summary>
    public bool AllowPrivateSources { get; init; }

    /// <summary>What opens private git repositories. Secret: never logged, and on no container's label.</summary>
    public GitAccess? GitAccess { get; init; }
}

/// <summary>One of a git repository, an uploaded folder or a prebuilt image.</summary>
public sealed record DroidSource
{
    /// <summary>A git repository, or null.</summary>
    public GitSource? Git { get; init; }

    /// <summary>An uploaded folder: the SHA-256 of its tar.gz, in hex, or null.</summary>
    public string? Upload { get; init; }

    /// <summary>The commit that an upload was made of, where it came by <c>git push</c>.</summary>
    public string? Commit { get; init; }

    /// <summary>A prebuilt image's reference, or null.</summary>
    public string? Image { get; init; }
}

/// <summary>A git repository and what of it to build.</summary>
/// <param name="Url">https, ssh, git or file URL.</param>
/// <param name="Ref">A branch, tag or commit; null for the remote's default branch.</param>
public sealed record GitSource(string Url, string? Ref);

/// <summary>What opens an app's private git repositories.</summary>
/// <param name="Key">A private key for ssh, as ssh-keygen writes it; null for none.</param>
/// <param name="Passwords">Passwords or tokens for https.</param>
public sealed record GitAccess(string? Key, IReadOnlyList<GitPassword> Passwords);

/// <summary>A password or token for one git host, for https alone.</summary>
public sealed record GitPassword(string Host, string Username, string Password);

/// <summary>What one container may use; 0 means no limit.</summary>
/// <param name="MemoryBytes">Memory, in bytes.</param>
/// <param name="Cpus">Processors, as 0.5.</param>
/// <param name="Pids">Processes and threads.</param>
/// <param name="DiskBytes">What it may write beside its volumes, in bytes.</param>
/// <param name="ReadOnly">Whether it may write to its volumes and to /tmp alone, which then is in its memory.</param>
public sealed record DroidLimits(
    long MemoryBytes = 512L << 20, double Cpus = 1, long Pids = 256, long DiskBytes = 2L << 30, bool ReadOnly = false);

/// <summary>A folder that outlives the containers that have it.</summary>
/// <param name="Id">Made as a uid is, and never used again: a new volume of an old name is empty.</param>
/// <param name="Name">The owner's name for it.</param>
/// <param name="Path">Where the containers have it.</param>
public sealed record DroidVolume(string Id, string Name, string Path);

/// <summary>A volume as its droid-server sees it.</summary>
/// <param name="Id"><see cref="DroidVolume.Id"/>.</param>
/// <param name="Bytes">What it holds.</param>
public sealed record VolumeSize(string Id, long Bytes);

/// <summary>When a droid counts as ready and as idle. Times in seconds; 0 means never.</summary>
/// <param name="Health">The path that must answer 2xx or 3xx, or null for a TCP accept.</param>
/// <param name="StartTimeout">How long a start may take until ready.</param>
/// <param name="PauseAfter">Idle time after which the container is frozen.</param>
/// <param name="SnoozeAfter">Idle time after which the container is stopped.</param>
/// <param name="SnoozeWorkers">Whether the other process types sleep and wake with <c>web</c>.</param>
/// <param name="WakePage">Whether browsers get a page while a stopped one starts; all others wait for it.</param>
/// <param name="KeepAwake">When it does not sleep: <see cref="AwakeWindow"/>s separated by commas, or null.</param>
public sealed record DroidPolicy(
    string? Health = null, int StartTimeout = 60, int PauseAfter = 300, int SnoozeAfter = 1800, bool SnoozeWorkers = false,
    bool WakePage = false, string? KeepAwake = null);

/// <summary>One of an app's process types.</summary>
/// <param name="Type">Its name, as <c>web</c>.</param>
/// <param name="Command">What it runs, as the Procfile or the buildpacks say it; null for the image's own command.</param>
/// <param name="Entrypoint">The program of a buildpacks' image that runs it; null where a shell runs the command.</param>
public sealed record ProcessType(string Type, string? Command = null, string? Entrypoint = null)
{
    /// <summary>The type that serves visitors.</summary>
    public const string Web = "web";

    /// <summary>The type that runs once for each deployment, before it serves.</summary>
    public const string Release = "release";

    /// <summary>The program of a buildpacks' image that runs any command in its environment.</summary>
    public const string Launcher = "/cnb/lifecycle/launcher";
}

/// <summary>How many of each process type run.</summary>
public static class Formations
{
    /// <summary>The most of one type.</summary>
    public const int Most = 20;

    /// <summary>How many of a type a formation asks for: where it says nothing, one <c>web</c> and none of any other.</summary>
    public static int CountOf(this IReadOnlyDictionary<string, int> formation, string type) => type switch
    {
        ProcessType.Release => 0,
        ProcessType.Web => formation.TryGetValue(type, out var count) ? Math.Max(1, count) : 1,
        _ => formation.GetValueOrDefault(type),
    };

    /// <summary>What is wrong with a count of a type; null if nothing.</summary>
    public static string? Fault(string type, int count) => type switch
    {
        ProcessType.Release => "release runs once for each deployment; it has no count",
        _ when !Names.IsProcessType(type) => $"'{new string([.. type.Take(40).Where(c => !char.IsControl(c))])}' is no process type",
        ProcessType.Web when count is < 1 or > Most => $"web is {count}: give a number from 1 to {Most}; to take an app offline, stop it",
        _ when count is < 0 or > Most => $"{type} is {count}: give a number from 0 to {Most}",
        _ => null,
    };
}

/// <summary>The states that a droid is shown in.</summary>
public static class DroidStates
{
    public const string Running = "running";
    public const string Paused = "paused";
    public const string Snoozed = "snoozed";
    public const string Building = "building";
    public const string Starting = "starting";
    public const string Crashed = "crashed";
    public const string Failed = "failed";
    public const string Stopped = "stopped";
}

/// <summary>The states of a deployment: queued → fetching → building → releasing → starting → checking → live | failed | cancelled.</summary>
public static class DeploymentStates
{
    public const string Queued = "queued";
    public const string Fetching = "fetching";
    public const string Building = "building";
    public const string Releasing = "releasing";
    public const string Starting = "starting";
    public const string Checking = "checking";
    public const string Live = "live";
    public const string Failed = "failed";
    public const string Cancelled = "cancelled";

    /// <summary>Whether a deployment in this state changes no more.</summary>
    public static bool IsFinal(string state) => state is Live or Failed or Cancelled;
}

/// <summary>A droid as its droid-server sees it: the answer of <c>GET /droids/{uid}</c>.</summary>
public sealed record DroidStatus
{
    public required string Uid { get; init; }

    public required string App { get; init; }

    /// <summary>The newest generation accepted.</summary>
    public required long Generation { get; init; }

    /// <summary>One of <see cref="DroidStates"/>.</summary>
    public required string State { get; init; }

    /// <summary>Why, where the state is <c>crashed</c> or <c>failed</c>.</summary>
    public string? Error { get; init; }

    /// <summary>Its app's way to another droid-server, which routerd adds; null where it is on none.</summary>
    public AppMove? Move { get; init; }

    /// <summary>The newest deployment known here, running or ended.</summary>
    public DeploymentStatus? Deployment { get; init; }

    /// <summary>The deployment that serves; null before the first.</summary>
    public LiveDroid? Live { get; init; }

    /// <summary>Its processes, <c>web</c> first; empty before the first deployment is live.</summary>
    public IReadOnlyList<ProcessStatus> Processes { get; set; } = [];

    /// <summary>The process types of what serves, <c>web</c> first.</summary>
    public IReadOnlyList<ProcessType> Types { get; set; } = [];

    /// <summary>When the last request ended; null if none since the server started.</summary>
    public DateTimeOffset? LastRequestAt { get; init; }

    /// <summary>Requests and websockets open now.</summary>
    public int InFlight { get; init; }

    /// <summary>The seconds that a visit would wait for it to wake, by its last wakes; null while it is awake, or none is known.</summary>
    public double? WakesIn { get; init; }
}

/// <summary>One process of an app.</summary>
/// <param name="Name">Its type and its number within that, as <c>web.1</c>.</param>
/// <param name="State">One of <see cref="DroidStates"/>.</param>
/// <param name="Since">Since when it is in this state; of one that is not there, null.</param>
/// <param name="Error">Why, where it is <c>crashed</c> or <c>failed</c>; else why it was started again last.</param>
/// <param name="Restarts">How often it was started again after it had exited by itself, as far as droidd has seen it.</param>
/// <param name="Container">Docker's id.</param>
/// <param name="Address"><c>ip:port</c> on droid-net, of a <c>web</c>.</param>
public sealed record ProcessStatus(
    string Name, string State, DateTimeOffset? Since, string? Error = null, int Restarts = 0, string? Container = null, string? Address = null);

/// <summary>How far a deployment is.</summary>
/// <param name="Number">Its number within the app.</param>
/// <param name="State">One of <see cref="DeploymentStates"/>.</param>
/// <param name="Error">Why it failed, in one line.</param>
/// <param name="Commit">The commit that was built, where the source is git.</param>
/// <param name="Reason">One of <see cref="FailureReasons"/>, where it failed.</param>
/// <param name="Ahead">Builds that come before it, while it is queued.</param>
public sealed record DeploymentStatus(
    int Number, string State, string? Error = null, string? Commit = null, string? Reason = null, int? Ahead = null);

/// <summary>Why a deployment failed, in a word for programs; <see cref="DeploymentStatus.Error"/> says it to people.</summary>
public static class FailureReasons
{
    /// <summary>The repository, the ref or the upload is not there, may not be fetched, or is broken.</summary>
    public const string Source = "source";

    /// <summary>The source is larger than the droid-server takes.</summary>
    public const string SourceTooBig = "source-too-big";

    /// <summary>There is no Dockerfile, and no buildpack knows what to do with the source.</summary>
    public const string NoBuilderFits = "no-builder-fits";

    /// <summary>A step of the build failed.</summary>
    public const string Build = "build";

    /// <summary>The build was done, but its image could not be stored.</summary>
    public const string Export = "export";

    /// <summary>The builder, its buildpacks or what runs them can't be used or do not go together.</summary>
    public const string Builder = "builder";

    /// <summary>The droid-server has no <c>pack</c>.</summary>
    public const string NoPack = "no-pack";

    /// <summary>The image to run is not there.</summary>
    public const string Image = "image";

    /// <summary>Fetching or building took longer than the droid-server allows.</summary>
    public const string Timeout = "timeout";

    /// <summary>The droid-server's disk is full.</summary>
    public const string DiskFull = "disk-full";

    /// <summary>The release command failed, or took too long.</summary>
    public const string Release = "release";

    /// <summary>The app did not start, or did not get ready.</summary>
    public const string NotReady = "not-ready";

    /// <summary>The platform itself failed at it.</summary>
    public const string Server = "server";
}

/// <summary>An image that a droid-server keeps of a deployment.</summary>
/// <param name="Deployment">The deployment's number.</param>
/// <param name="Image">Docker's image id; deployments that were built alike share one.</param>
public sealed record KeptImage(int Deployment, string Image);

/// <summary>What one droid-server tells another of a deployment, whose app moves there.</summary>
/// <param name="Deployment">The deployment's number.</param>
/// <param name="Image">Docker's image id; null where it is to be built anew.</param>
/// <param name="Key">The same for builds of the same source in the same way.</param>
/// <param name="Types">Its process types; null where they are not known: <c>web</c> alone.</param>
/// <param name="State">How it ended, one of <see cref="DeploymentStates"/>; null for the one that is to be live.</param>
/// <param name="Commit">The commit that it was built of.</param>
/// <param name="Released">Whether its release command has done its work.</param>
public sealed record HandedRelease(
    int Deployment, string? Image, string Key, IReadOnlyList<ProcessType>? Types, string? State = null, string? Commit = null, bool Released = false);

/// <summary>An uploaded folder.</summary>
/// <param name="Id">The SHA-256 of its tar.gz, in hex: what <see cref="DroidSource.Upload"/> takes.</param>
/// <param name="Bytes">Its size as it was sent.</param>
public sealed record Upload(string Id, long Bytes);

/// <summary>The containers that serve; of several <c>web</c>, the first one.</summary>
/// <param name="Deployment">The deployment it came from.</param>
/// <param name="Container">Docker's id.</param>
/// <param name="Image">Docker's image id.</param>
/// <param name="Address"><c>ip:port</c> on droid-net.</param>
/// <param name="StartedAt">When Docker last started it.</param>
/// <param name="Starts">How often droidd has started it since it was created.</param>
public sealed record LiveDroid(int Deployment, string Container, string Image, string Address, DateTimeOffset StartedAt, int Starts);

/// <summary>A droid-server's own state: the answer of <c>GET /server</c>.</summary>
public sealed record ServerStatus
{
    public required string Name { get; init; }

    public required string Version { get; init; }

    public required int Droids { get; init; }

    public required long MemoryBytes { get; init; }

    public required int Cpus { get; init; }

    /// <summary>The disk that Docker keeps its files on; null before the first look at it.</summary>
    public DiskStatus? Disk { get; init; }

    /// <summary>The templates of the local nginx and what became of them.</summary>
    public required TemplateStatus Templates { get; init; }
}

/// <summary>A droid-server's disk.</summary>
/// <param name="FreeBytes">Free for all but root's reserve.</param>
/// <param name="TotalBytes">Its size.</param>
public sealed record DiskStatus(long FreeBytes, long TotalBytes)
{
    /// <summary>What caches of builds and images that nothing uses take; null before they were looked at.</summary>
    public long? CacheBytes { get; init; }

    /// <summary>What logs of builds take.</summary>
    public long? LogBytes { get; init; }

    /// <summary>The last collection that removed something.</summary>
    public Collection? Collected { get; init; }
}

/// <summary>What a collection of garbage has given back: the answer of <c>POST /v1/servers/{name}/prune</c>.</summary>
/// <param name="At">When.</param>
/// <param name="Removed">How many images, caches, clones and logs.</param>
/// <param name="FreedBytes">What they took, as far as it can be told.</param>
/// <param name="Busy">Whether images and caches were left because builds ran.</param>
public sealed record Collection(DateTimeOffset At, int Removed, long FreedBytes, bool Busy = false);

/// <summary>What became of the newest render of one nginx's templates.</summary>
/// <param name="Nginx"><c>global</c> or <c>local</c>.</param>
/// <param name="Version">The version that serves.</param>
/// <param name="Error">Null if the newest templates serve; else what is wrong with them.</param>
/// <param name="At">When this became so.</param>
public sealed record TemplateStatus(string Nginx, string? Version, TemplateError? Error, DateTimeOffset At)
{
    /// <summary>The routerd or droid-server that looks after the nginx; null where that is the one who answers.</summary>
    public string? Name { get; init; }

    /// <summary>Of each template the newest version that it has taken or refused, 0 for the shipped text; null for a local nginx.</summary>
    public IReadOnlyDictionary<string, int>? Templates { get; init; }

    /// <summary>When its routerd was last heard of; null while it is.</summary>
    public DateTimeOffset? AwaySince { get; init; }
}

/// <summary>What is wrong with a template.</summary>
/// <param name="Template">The template's file name.</param>
/// <param name="Line">The line in the template, from 1; 0 where it can't be told.</param>
/// <param name="Message">Scriban's or nginx's own words.</param>
public sealed record TemplateError(string Template, int Line, string Message)
{
    public override string ToString() => $"{Template}:{Line}: {Message}";
}
