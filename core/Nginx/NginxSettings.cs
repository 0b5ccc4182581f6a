namespace Appoxy.Nginx;

/// <summary>The <c>nginx</c> section of <c>routerd.json</c> and <c>droidd.json</c>: one nginx and where its parts lie. All paths absolute.</summary>
public sealed class NginxSettings
{
    /// <summary>The nginx (or OpenResty) binary.</summary>
    public string Binary { get; set; } = "/usr/sbin/nginx";

    /// <summary>Holds <c>versions/&lt;version&gt;</c> and the link <c>current</c> to the one that serves.</summary>
    public string Root { get; set; } = "";

    public string PidFile { get; set; } = "";

    /// <summary>The unix socket that nginx answers on for its daemon only.</summary>
    public string ControlSocket { get; set; } = "";

    /// <summary>The templates that Appoxy ships.</summary>
    public string Templates { get; set; } = "";

    /// <summary>Templates of the admin, which win over shipped ones of the same name.</summary>
    public string TemplateOverrides { get; set; } = "";

    /// <summary>Static configuration that templates include.</summary>
    public string Fragments { get; set; } = "";

    /// <summary>The folder that holds the Lua package <c>appoxy</c>.</summary>
    public string Lua { get; set; } = "";

    public string LogDir { get; set; } = "";

    public string RunDir { get; set; } = "";

    /// <summary>The file from which nginx fills its dict at start.</summary>
    public string Snapshot { get; set; } = "";

    /// <summary>Dynamic modules to load, in order; empty for OpenResty.</summary>
    public string[] Modules { get; set; } = [];

    /// <summary>Worker processes: <c>auto</c> or a number.</summary>
    public string Workers { get; set; } = "auto";

    /// <summary>The largest request body, as nginx writes it.</summary>
    public string MaxBody { get; set; } = "100m";

    /// <summary>The size from which a log file is put aside; three old ones are kept.</summary>
    public string MaxLog { get; set; } = "64m";

    /// <summary>
    /// The memory that workers of before a reload may hold while their websockets last; beyond it the oldest are ended. Null for a
    /// quarter of the machine's.
    /// </summary>
    public string? MaxOldMemory { get; set; }

    /// <summary>The port for visitors of an nginx that is but tested; null for one that serves.</summary>
    public int? TestPort { get; private set; }

    /// <summary>The same nginx, but that all it opens for writing lies in <paramref name="folder"/>, and that its port is another.</summary>
    internal NginxSettings Within(string folder, int port)
    {
        var within = (NginxSettings)MemberwiseClone();
        within.TestPort = port;
        within.Root = within.LogDir = within.RunDir = folder;
        within.Snapshot = Path.Combine(folder, "snapshot");
        within.PidFile = Path.Combine(folder, "pid");
        within.ControlSocket = Path.Combine(folder, "control");
        return within;
    }

    /// <summary>Says what is wrong with these settings, each fault naming its setting and the fix.</summary>
    public IEnumerable<string> Faults()
    {
        foreach (var (name, path) in new (string, string)[]
        {
            ("binary", Binary), ("root", Root), ("pidFile", PidFile), ("controlSocket", ControlSocket), ("templates", Templates),
            ("templateOverrides", TemplateOverrides), ("fragments", Fragments), ("lua", Lua), ("logDir", LogDir), ("runDir", RunDir),
            ("snapshot", Snapshot),
        })
        {
            if (!Path.IsPathFullyQualified(path))
                yield return $"nginx:{name} is '{path}': give an absolute path";
            else if (path.AsSpan().ContainsAny("\"'\\;{}$\n\r\t "))
                yield return $"nginx:{name} is '{path}': a path that nginx reads can't hold spaces, quotes, braces, $ or ;";
        }
        if (Workers != "auto" && !(int.TryParse(Workers, out var workers) && workers is > 0 and <= 1024))
            yield return $"nginx:workers is '{Workers}': give auto or a number from 1 to 1024";
        if (!Quantities.TryParseBytes(MaxLog, out var log) || log < 1 << 10)
            yield return $"nginx:maxLog is '{MaxLog}': give a size of 1k or more such as 64m";
        if (MaxOldMemory is not null && !Quantities.TryParseBytes(MaxOldMemory, out _))
            yield return $"nginx:maxOldMemory is '{MaxOldMemory}': give a size such as 512m";
        if (!Quantities.TryParseBytes(MaxBody, out _))
            yield return $"nginx:maxBody is '{MaxBody}': give a size such as 100m";
    }
}
