namespace Appoxy.Tests;

/// <summary>A folder made of one below tests/apps, to be deployed as it is: no repository.</summary>
public sealed class Folder
{
    public Folder(Install install, string app, string name)
    {
        Path = System.IO.Path.Combine(install.Prefix, "folders", name);
        foreach (var file in Directory.EnumerateFiles(System.IO.Path.Combine(install.Repository, "tests/apps", app), "*", SearchOption.AllDirectories))
            Write(System.IO.Path.GetRelativePath(System.IO.Path.Combine(install.Repository, "tests/apps", app), file), File.ReadAllText(file));
    }

    public string Path { get; }

    public Folder Write(string file, string text)
    {
        var path = System.IO.Path.Combine(Path, file);
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
        return this;
    }
}
