using Appoxy.Droidd.Builds;

namespace Appoxy.Tests.Unit;

public sealed class AppJsonTests
{
    [Theory]
    [InlineData("{}", null, null, null)]
    [InlineData("""{"scripts":{}}""", null, null, null)]
    [InlineData("""{"scripts":{"dokku":{"predeploy":"a b","postdeploy":" c "},"postdeploy":"d"}}""", "a b", "c", "d")]
    [InlineData("""{"scripts":{"dokku":{"predeploy":""},"postdeploy":null,"test":"x"}}""", null, null, null)]
    [InlineData("""{"scripts":"x","env":{}}""", null, null, null)]
    [InlineData("[]", null, null, null)]
    public void Scripts_are_where_Heroku_and_Dokku_have_them(string text, string? before, string? after, string? first)
    {
        var scripts = AppJson.Parse(text);
        Assert.Equal((before, after, first), (scripts?.Before, scripts?.After, scripts?.First));
    }

    [Theory]
    [InlineData("{")]
    [InlineData("")]
    [InlineData("""{"scripts":{"postdeploy":["a"]}}""")]
    [InlineData("""{"scripts":{"postdeploy":"a\u0000b"}}""")]
    public void What_makes_no_sense_is_refused(string text) =>
        Assert.StartsWith("app.json: ", Assert.Throws<BuildException>(() => AppJson.Parse(text)).Message, StringComparison.Ordinal);

    [Fact]
    public void A_script_without_end_is_refused() =>
        Assert.Throws<BuildException>(() => AppJson.Parse("""{"scripts":{"postdeploy":"LONG"}}""".Replace("LONG", new string('x', 9000), StringComparison.Ordinal)));
}
