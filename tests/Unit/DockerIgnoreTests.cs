using Appoxy.Droidd.Builds;

namespace Appoxy.Tests.Unit;

public sealed class DockerIgnoreTests
{
    // As Docker's own documentation and its matcher's tests have them.
    [Theory]
    [InlineData("*/temp*", "somedir/temporary.txt", true)]
    [InlineData("*/temp*", "somedir/temp/x", true)]
    [InlineData("*/temp*", "temporary.txt", false)]
    [InlineData("*/*/temp*", "somedir/subdir/temporary.txt", true)]
    [InlineData("temp?", "tempa", true)]
    [InlineData("temp?", "temp", false)]
    [InlineData("**/*.go", "a.go", true)]
    [InlineData("**/*.go", "a/b/c.go", true)]
    [InlineData("**/foo/bar", "foo/bar", true)]
    [InlineData("**/foo/bar", "dir/foo/bar", true)]
    [InlineData("**/foo/bar", "dir/dir2/foo/bar/deep", true)]
    [InlineData("abc/**", "abc", false)]
    [InlineData("abc/**", "abc/def/ghi", true)]
    [InlineData("a/**/b", "a/b", true)]
    [InlineData("a/**/b", "a/x/y/b", true)]
    [InlineData("a/**/b", "ab", false)]
    [InlineData("**", "anything/at/all", true)]
    [InlineData("**file", "somefile", true)]
    [InlineData("**/file", "somefile", false)]
    [InlineData("a**b", "axb", false)]
    [InlineData("/root.txt", "root.txt", true)]
    [InlineData("./a/../b", "b", true)]
    [InlineData("dir/", "dir/file", true)]
    [InlineData("file", "dir/file", false)]
    [InlineData("a.c", "abc", false)]
    [InlineData("a(b)+$", "a(b)+$", true)]
    [InlineData("[a-c]x", "bx", true)]
    [InlineData("[^a-c]x", "bx", false)]
    [InlineData("[^a-c]x", "dx", true)]
    [InlineData(@"a\*b", "a*b", true)]
    [InlineData(@"a\*b", "axb", false)]
    [InlineData("*.md\n!README.md", "README.md", false)]
    [InlineData("*.md\n!README.md", "other.md", true)]
    [InlineData("!README.md\n*.md", "README.md", true)]
    [InlineData("docs\n!docs/README.md", "docs/README.md", false)]
    [InlineData("docs\n!docs/README.md", "docs/other", true)]
    [InlineData("docs\n!docs/*.md\ndocs/secret.md", "docs/secret.md", true)]
    [InlineData("# comment\n\n  spaced  ", "spaced", true)]
    [InlineData("# comment", "# comment", false)]
    [InlineData("*", "Dockerfile", false)]
    [InlineData("*", ".dockerignore", false)]
    [InlineData("*", "a/Dockerfile", true)]
    [InlineData(".", "a", false)]
    public void Path_is_left_out_as_Docker_does(string rules, string path, bool expected) =>
        Assert.Equal(expected, new DockerIgnore(rules.Split('\n')).Excludes(path));

    [Theory]
    [InlineData("!")]
    [InlineData("a[")]
    [InlineData("[b-a]")]
    public void Line_that_is_no_pattern_is_named(string line) =>
        Assert.Contains(line, Assert.Throws<FormatException>(() => new DockerIgnore([line])).Message, StringComparison.Ordinal);

    [Fact]
    public void Pattern_made_to_be_slow_is_not() =>
        Assert.False(new DockerIgnore(["**/*a*a*a*a*a*a*a*a*a*a*a*ab"]).Excludes(new string('a', 2000)));

    [Fact]
    public void Build_context_has_what_is_taken_back_in_and_nothing_behind_links()
    {
        var top = Directory.CreateTempSubdirectory("appoxy-").FullName;
        try
        {
            foreach (var file in new[] { ".git/config", "Dockerfile", "docs/a.md", "docs/deep/keep.md", "sub/.git/config", "x" })
            {
                Directory.CreateDirectory(Path.GetDirectoryName(Path.Combine(top, file))!);
                File.WriteAllText(Path.Combine(top, file), "");
            }
            Directory.CreateSymbolicLink(Path.Combine(top, "link"), "/etc");
            Assert.Equal(["Dockerfile", "docs/deep/keep.md", "link", "sub", "sub/.git", "sub/.git/config", "x"],
                DockerfileBuild.Entries(top, "", new DockerIgnore(["docs", "!docs/**/keep.md"])));
        }
        finally
        {
            Directory.Delete(top, recursive: true);
        }
    }
}
