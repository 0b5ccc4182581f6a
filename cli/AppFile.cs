using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using Tomlyn;
using Tomlyn.Model;

namespace Appoxy.Cli;

/// <summary>
/// What an app's repository says of it: <c>appoxy.toml</c>, and where that is silent <c>app.json</c>. Settings and routing hold anew with
/// each deploy of the folder; counts and variables are only what the app begins with, so that <c>scale</c> and <c>env</c> win over them.
/// </summary>
internal sealed class AppFile
{
    public const string FileName = "appoxy.toml";
    private const string JsonName = "app.json";
    private const long LongestFile = 256 << 10;

    private readonly List<string> notes = [];

    private AppFile(string folder) => Folder = folder;

    /// <summary>Where it lies.</summary>
    public string Folder { get; }

    /// <summary>The app's name; null where the file has none.</summary>
    public string? Name { get; private set; }

    public string? Builder { get; private set; }

    private AppSettings Settings { get; set; } = new();

    private AppRouting Routing { get; set; } = new();

    private Dictionary<string, int> Scale { get; } = [];

    private Dictionary<string, string> Env { get; } = [];

    /// <summary>Variables that the app must have, and the file has no value for.</summary>
    private List<string> Required { get; } = [];

    /// <summary>That of the folder; null where it has neither file.</summary>
    /// <exception cref="Failure">One of them is wrong; the words say where.</exception>
    public static AppFile? Of(string folder)
    {
        var (toml, json) = (Path.Combine(folder, FileName), Path.Combine(folder, JsonName));
        if (!File.Exists(toml) && !File.Exists(json))
            return null;
        var file = new AppFile(folder);
        if (File.Exists(json))
            file.ReadJson(json);
        if (File.Exists(toml))
            file.ReadToml(toml);
        return file;
    }

    /// <summary>The nearest <c>appoxy.toml</c> from here upwards; null where there is none.</summary>
    public static AppFile? Nearest()
    {
        for (var at = new DirectoryInfo(Environment.CurrentDirectory); at is not null; at = at.Parent)
        {
            if (File.Exists(Path.Combine(at.FullName, FileName)))
                return Of(at.FullName);
        }
        return null;
    }

    /// <summary>Brings the app to what the file says, before a deployment begins.</summary>
    public async Task ApplyAsync(Routerd routerd, string name, CancellationToken cancel)
    {
        foreach (var note in notes)
            Output.Note(note);
        var app = (await routerd.GetAsync<App>(Routerd.App(name), cancel)).Value;
        var wanted = AppSetting.All.Where(s => s.Of(Settings) is { } value && value != s.Of(app.Settings)).ToList();
        if (wanted.Count > 0)
        {
            await routerd.PatchAsync<AppSettings, App>(Routerd.App(name), wanted.Aggregate(new AppSettings(), (s, rule) => rule.With(s, rule.Of(Settings))), cancel);
            Output.Note($"{FileName}: {string.Join(' ', wanted.Select(s => $"{s.Name}={s.Of(Settings)}"))}");
        }
        if (RoutingOption.All.Any(o => o.Of(Routing) is not null))
        {
            var now = (await routerd.GetAsync<AppRouting>(Routerd.App(name, "routing"), cancel)).Value;
            var changed = RoutingOption.All.Where(o => o.Of(Routing) is { } value && value != o.Of(now)).ToList();
            if (changed.Count > 0)
                await routerd.PatchAsync<AppRouting, AppRouting>(
                    Routerd.App(name, "routing"), changed.Aggregate(new AppRouting(), (r, o) => o.With(r, o.Of(Routing))), cancel);
        }
        if (Env.Count > 0 || Required.Count > 0)
            await BeginEnvAsync(routerd, name, cancel);
        // From the first deployment on, what appoxy scale says.
        if (app.Deployment is null && Scale.Count > 0)
            await routerd.PatchAsync<Dictionary<string, int>, Page<ProcessScale>>(Routerd.App(name, "scale"), Scale, cancel);
    }

    private async Task BeginEnvAsync(Routerd routerd, string name, CancellationToken cancel)
    {
        var now = (await routerd.GetAsync<Dictionary<string, string>>(Routerd.App(name, "env"), cancel)).Value;
        if (Required.FirstOrDefault(key => !now.ContainsKey(key)) is { } missing)
            throw Failure.Usage($"{JsonName} says that {name} needs {missing}; set it first: appoxy env set {name} {missing}=…");
        var first = Env.Where(e => !now.ContainsKey(e.Key)).ToDictionary();
        if (first.Count == 0)
            return;
        await routerd.PatchAsync<Dictionary<string, string>, Dictionary<string, string>>(Routerd.App(name, "env"), first, cancel);
        Output.Note($"set for {name}, as it had none: {string.Join(", ", first.Keys)}");
    }

    private void ReadToml(string path)
    {
        TomlTable table;
        try
        {
            table = TomlSerializer.Deserialize<TomlTable>(Read(path)) ?? [];
        }
        catch (TomlException e)
        {
            throw Failure.Usage($"{path}: {e.Message.ReplaceLineEndings(" ")}");
        }
        foreach (var (key, value) in table)
        {
            switch (key, value)
            {
                case ("name", string name) when Names.IsAppName(name):
                    Name = name;
                    break;
                case ("builder", string builder):
                    Builder = builder;
                    break;
                case ("settings", TomlTable settings):
                    foreach (var (setting, given) in settings)
                        Settings = Setting(path, setting, Text(given));
                    break;
                case ("routing", TomlTable routing):
                    foreach (var (option, given) in routing)
                        Routing = Option(path, option, Text(given));
                    break;
                case ("scale", TomlTable scale):
                    Scale.Clear();
                    foreach (var (type, count) in scale)
                        Scale[type] = count is long n && Formations.Fault(type, (int)Math.Clamp(n, -1, int.MaxValue)) is null ? (int)n
                            : throw Failure.Usage($"{path}: scale.{type}: give a number of processes");
                    break;
                case ("env", TomlTable env):
                    foreach (var (variable, given) in env)
                        Variable(path, variable, Text(given));
                    break;
                default:
                    throw Failure.Usage($"{path}: '{key}' is not known or has a wrong value: give name, builder, [settings], [routing], [scale], [env]");
            }
        }
    }

    private AppSettings Setting(string path, string name, string value)
    {
        var rule = AppSetting.All.FirstOrDefault(s => s.Name == name)
            ?? throw Failure.Usage($"{path}: there is no setting '{name}'; there are {string.Join(", ", AppSetting.All.Select(s => s.Name))}");
        return rule.With(Settings, rule.Normalize(value) ?? throw Failure.Usage($"{path}: {name} is '{value}': give {rule.Example}"));
    }

    private AppRouting Option(string path, string name, string value)
    {
        // Who may come in is said with passwords, which are nothing for a repository.
        var rule = RoutingOption.All.FirstOrDefault(o => o.Name == name && name != "auth")
            ?? throw Failure.Usage($"{path}: there is no routing option '{name}' for this file");
        return rule.With(Routing, value);
    }

    private void ReadJson(string path)
    {
        try
        {
            using var json = JsonDocument.Parse(Read(path), new JsonDocumentOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true });
            if (json.RootElement.ValueKind != JsonValueKind.Object)
                throw Failure.Usage($"{path} is no JSON object");
            foreach (var member in json.RootElement.EnumerateObject())
                ReadMember(path, member);
        }
        catch (JsonException e)
        {
            throw Failure.Usage($"{path}: {e.Message.ReplaceLineEndings(" ")}");
        }
    }

    /// <summary>Of the many members that app.json may have, those that mean something here.</summary>
    private void ReadMember(string path, JsonProperty member)
    {
        switch (member.Name, member.Value.ValueKind)
        {
            case ("env", JsonValueKind.Object):
                foreach (var variable in member.Value.EnumerateObject())
                    ReadVariable(path, variable);
                break;
            case ("formation", JsonValueKind.Object):
                foreach (var type in member.Value.EnumerateObject().Where(t => t.Value.ValueKind == JsonValueKind.Object))
                    if (type.Value.TryGetProperty("quantity", out var quantity) && quantity.TryGetInt32(out var count) && Formations.Fault(type.Name, count) is null)
                        Scale[type.Name] = count;
                break;
            case ("buildpacks", JsonValueKind.Array):
                string[] images = [.. member.Value.EnumerateArray().Select(b => b.ValueKind == JsonValueKind.Object && b.TryGetProperty("url", out var url)
                    && url.ValueKind == JsonValueKind.String ? ImageOf(url.GetString()!) : "")];
                if (images.All(i => i.Length > 0) && AppSetting.All.Single(s => s.Name == "buildpacks") is var rule && rule.Normalize(string.Join(',', images)) is { } value)
                    Settings = rule.With(Settings, value);
                else
                    notes.Add($"{JsonName}: buildpacks are left out, as not all of them are images or of heroku/");
                break;
        }
    }

    private void ReadVariable(string path, JsonProperty variable)
    {
        var value = variable.Value;
        if (value.ValueKind == JsonValueKind.String)
            Variable(path, variable.Name, value.GetString()!);
        else if (value.ValueKind != JsonValueKind.Object)
            throw Failure.Usage($"{path}: env.{variable.Name}: give a text or an object");
        else if (value.TryGetProperty("generator", out var generator) && generator.ValueKind == JsonValueKind.String && generator.GetString() == "secret")
            Variable(path, variable.Name, RandomNumberGenerator.GetHexString(64, lowercase: true));
        else if (value.TryGetProperty("value", out var text) && text.ValueKind == JsonValueKind.String)
            Variable(path, variable.Name, text.GetString()!);
        else if (!value.TryGetProperty("required", out var required) || required.ValueKind != JsonValueKind.False)
            Required.Add(variable.Name);
    }

    private void Variable(string path, string name, string value)
    {
        if (!Names.IsEnvName(name))
            throw Failure.Usage($"{path}: env: '{Output.OneLine(name)}' names no variable");
        Env[name] = value;
        Required.Remove(name);
    }

    /// <summary>The image of a buildpack that Heroku's users know by its short name.</summary>
    private static string ImageOf(string url) => url.StartsWith("heroku/", StringComparison.Ordinal) && !url.StartsWith("heroku/buildpack", StringComparison.Ordinal)
        ? "heroku/buildpack-" + url["heroku/".Length..]
        : url.Contains("://", StringComparison.Ordinal) ? "" : url;

    private static string Text(object? value) => value switch
    {
        string text => text,
        bool on => on ? "on" : "off",
        TomlArray list => string.Join(',', list.Select(Text)),
        IFormattable number => number.ToString(null, CultureInfo.InvariantCulture),
        _ => "",
    };

    private static string Read(string path)
    {
        try
        {
            return new FileInfo(path).Length <= LongestFile ? File.ReadAllText(path) : throw Failure.Usage($"{path} is too long");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Failure.Usage($"can't read {path}: {e.Message}");
        }
    }
}
