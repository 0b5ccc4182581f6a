using System.Text.Json;
using System.Text.Json.Serialization;

namespace Appoxy;

/// <summary>JSON as all parts of Appoxy write and read it: camelCase, nulls left out, unknown members refused.</summary>
[JsonSourceGenerationOptions(JsonSerializerDefaults.Web, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow, NumberHandling = JsonNumberHandling.Strict,
    RespectNullableAnnotations = true)]
[JsonSerializable(typeof(DroidSpec))]
[JsonSerializable(typeof(DroidStatus))]
[JsonSerializable(typeof(IReadOnlyList<DroidStatus>))]
[JsonSerializable(typeof(DeploymentStatus))]
[JsonSerializable(typeof(ServerStatus))]
[JsonSerializable(typeof(Collection))]
[JsonSerializable(typeof(App))]
[JsonSerializable(typeof(AppSettings))]
[JsonSerializable(typeof(AppRouting))]
[JsonSerializable(typeof(NewApp))]
[JsonSerializable(typeof(NewDeployment))]
[JsonSerializable(typeof(Deployment))]
[JsonSerializable(typeof(NewDomain))]
[JsonSerializable(typeof(Domain))]
[JsonSerializable(typeof(NewVolume))]
[JsonSerializable(typeof(Volume))]
[JsonSerializable(typeof(Page<Volume>))]
[JsonSerializable(typeof(IReadOnlyList<VolumeSize>))]
[JsonSerializable(typeof(IReadOnlyList<DroidVolume>))]
[JsonSerializable(typeof(Server))]
[JsonSerializable(typeof(NewJoinToken))]
[JsonSerializable(typeof(IssuedJoinToken))]
[JsonSerializable(typeof(RevokedServer))]
[JsonSerializable(typeof(RouteExplanation))]
[JsonSerializable(typeof(NewToken))]
[JsonSerializable(typeof(IssuedToken))]
[JsonSerializable(typeof(Page<Token>))]
[JsonSerializable(typeof(NewSession))]
[JsonSerializable(typeof(Account))]
[JsonSerializable(typeof(NewPassword))]
[JsonSerializable(typeof(User))]
[JsonSerializable(typeof(Page<User>))]
[JsonSerializable(typeof(NewUser))]
[JsonSerializable(typeof(UserChange))]
[JsonSerializable(typeof(Invitation))]
[JsonSerializable(typeof(AcceptedInvitation))]
[JsonSerializable(typeof(Collaborator))]
[JsonSerializable(typeof(Page<Collaborator>))]
[JsonSerializable(typeof(Team))]
[JsonSerializable(typeof(Page<Team>))]
[JsonSerializable(typeof(Quota))]
[JsonSerializable(typeof(NewOwner))]
[JsonSerializable(typeof(Page<AuditItem>))]
[JsonSerializable(typeof(DroidSource))]
[JsonSerializable(typeof(Upload))]
[JsonSerializable(typeof(NewRollback))]
[JsonSerializable(typeof(IReadOnlyList<KeptImage>))]
[JsonSerializable(typeof(NewWebhook))]
[JsonSerializable(typeof(Webhook))]
[JsonSerializable(typeof(WebhookAnswer))]
[JsonSerializable(typeof(Page<Finding>))]
[JsonSerializable(typeof(List<Finding>))]
[JsonSerializable(typeof(DroidServerFindings))]
[JsonSerializable(typeof(SecretKeyUse))]
[JsonSerializable(typeof(Page<SecretKeyUse>))]
[JsonSerializable(typeof(DeployKey))]
[JsonSerializable(typeof(NewGitAuth))]
[JsonSerializable(typeof(GitAuth))]
[JsonSerializable(typeof(Page<Webhook>))]
[JsonSerializable(typeof(Page<GitAuth>))]
[JsonSerializable(typeof(TemplateStatus))]
[JsonSerializable(typeof(NginxTemplate))]
[JsonSerializable(typeof(TemplateText))]
[JsonSerializable(typeof(TemplateTest))]
[JsonSerializable(typeof(TemplatePreview))]
[JsonSerializable(typeof(TemplateActivation))]
[JsonSerializable(typeof(ActivatedTemplate))]
[JsonSerializable(typeof(Page<TemplateVersion>))]
[JsonSerializable(typeof(Page<App>))]
[JsonSerializable(typeof(Page<Deployment>))]
[JsonSerializable(typeof(Page<Domain>))]
[JsonSerializable(typeof(Page<Server>))]
[JsonSerializable(typeof(Page<TemplateStatus>))]
[JsonSerializable(typeof(Page<DroidStatus>))]
[JsonSerializable(typeof(Page<ProcessScale>))]
[JsonSerializable(typeof(IReadOnlyList<ProcessType>))]
[JsonSerializable(typeof(ServerChange))]
[JsonSerializable(typeof(NewDrain))]
[JsonSerializable(typeof(NewMove))]
[JsonSerializable(typeof(AppMove))]
[JsonSerializable(typeof(Page<PlannedMove>))]
[JsonSerializable(typeof(IReadOnlyList<HandedRelease>))]
[JsonSerializable(typeof(IReadOnlyList<int>))]
[JsonSerializable(typeof(Dictionary<string, string>))]
[JsonSerializable(typeof(Dictionary<string, int>))]
public sealed partial class AppoxyJson : JsonSerializerContext
{
    /// <summary>Makes a web host read and write JSON in the same way.</summary>
    public static void Configure(JsonSerializerOptions options)
    {
        options.TypeInfoResolverChain.Insert(0, Default);
        options.DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull;
        options.UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow;
        options.NumberHandling = JsonNumberHandling.Strict;
        options.RespectNullableAnnotations = true;
        options.AllowDuplicateProperties = false;
        // Leaves quotes and the like readable: what is sent is shown in terminals, never put into HTML.
        options.Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping;
    }
}
