using System.Security.Claims;
using Appoxy.Routerd;
using Appoxy.Routerd.Users;

namespace Appoxy.Tests.Unit;

public sealed class OidcTests
{
    [Theory]
    [InlineData("oidc.issuer", "issuer", "http://id.example.com")]
    [InlineData("oidc.issuer", "issuer", "id.example.com")]
    [InlineData("oidc.clientId", "clientId", "")]
    [InlineData("oidc.clientSecretFile", "clientSecretFile", "secret")]
    [InlineData("oidc.clientSecretFile", "clientSecretFile", "/nowhere/oidc.secret")]
    [InlineData("oidc.clientSecretFile", "clientSecretFile", "/dev/null")]
    [InlineData("oidc.scopes", "scopes", "openid")]
    [InlineData("oidc.adminClaim", "adminClaim", "groups")]
    [InlineData("oidc.letIn", "letIn", "example.com")]
    [InlineData("oidc.letIn", "letIn", "everybody")]
    public void A_setting_that_makes_no_sense_is_named(string fault, string setting, string value)
    {
        var settings = Settings();
        Assert.Empty(settings.Faults());
        typeof(OidcSettings).GetProperties().Single(p => p.Name.Equals(setting, StringComparison.OrdinalIgnoreCase)).SetValue(settings, value);
        Assert.StartsWith(fault + " is ", Assert.Single(settings.Faults()), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("invited", false, false)]
    [InlineData("all", true, true)]
    [InlineData("@example.org, @example.com", true, false)]
    public void Who_was_not_invited_is_let_in_as_the_settings_say(string letIn, bool own, bool others)
    {
        var settings = Settings();
        settings.LetIn = letIn;
        Assert.Empty(settings.Faults());
        Assert.Equal((own, others, others), (settings.LetsIn("Ann@Example.com"), settings.LetsIn("ann@example.com.test"), settings.LetsIn("ann@notexample.com")));
    }

    [Theory]
    [InlineData("a@x.test", "email", "a@x.test", "email_verified", "true")]
    [InlineData("a@x.test", "email", "a@x.test", "email_verified", "True", "email", "A@x.test")]
    [InlineData(null, "email", "a@x.test")]
    [InlineData(null, "email", "a@x.test", "email_verified", "false")]
    [InlineData(null, "email", "a@x.test", "email_verified", "true", "email_verified", "false")]
    [InlineData(null, "email", "a@x.test", "email", "b@x.test", "email_verified", "true")]
    [InlineData(null, "email", "a\0@x.test", "email_verified", "true")]
    public void An_email_is_believed_only_where_all_that_the_provider_says_agrees(string? email, params string[] claims)
    {
        var principal = new ClaimsPrincipal(new ClaimsIdentity([new("iss", "https://id.test"), new("sub", "1"), .. claims.Chunk(2).Select(c => new Claim(c[0], c[1]))]));
        Assert.Equal(new OidcIdentity("https://id.test", "1", email, null), OidcIdentity.Of(principal, Settings()));
    }

    [Fact]
    public void Who_has_no_subject_is_nobody()
    {
        foreach (var subject in new[] { "", new string('x', 256), "a\0b" })
        {
            var principal = new ClaimsPrincipal(new ClaimsIdentity([new("iss", "https://id.test"), new("sub", subject)]));
            Assert.Equal(403, Assert.Throws<Problem>(() => OidcIdentity.Of(principal, Settings())).Status);
        }
    }

    private static OidcSettings Settings() => new() { Issuer = "https://id.example.com", ClientId = "appoxy" };
}
