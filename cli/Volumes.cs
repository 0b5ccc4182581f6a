using System.CommandLine;

namespace Appoxy.Cli;

/// <summary><c>appoxy volumes</c>: folders of an app that outlive its containers.</summary>
internal static class Volumes
{
    public static Command Define() => new("volumes", "Creates, lists, exports, imports and removes an app's volumes.")
    {
        Create(), List(), Export(), Import(), Remove(),
    };

    private static Verb Create()
    {
        var (name, volume) = (Arguments.App(), Name());
        var path = new Argument<string?>("PATH") { Description = "Where the app finds it; else /VOLUME", Arity = ArgumentArity.ZeroOrOne };
        path.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && !VolumeRules.IsPath(token.Value))
                result.AddError(Arguments.UnknownOption(token.Value) ?? $"'{token.Value}' is no place for a volume: give {VolumeRules.PathExample}");
        });
        return new Verb("create", "Creates a volume; the app is started anew with it.", "appoxy volumes create shop data /data") { name, volume, path }
            .Does(async (call, cancel) =>
            {
                var created = await call.Routerd.PostAsync<NewVolume, Volume>(
                    Routerd.App(call.Get(name), "volumes"), new NewVolume(call.Get(volume), call.Get(path)), cancel);
                if (call.Json)
                    Output.Json(created.Json);
                else
                    Output.Line($"{call.Get(name)} has the volume {created.Value.Name} at {created.Value.Path}");
            });
    }

    private static Verb List()
    {
        var name = Arguments.App();
        return new Verb("list", "Lists an app's volumes and what they hold.", "appoxy volumes list shop") { name }.Does(async (call, cancel) =>
        {
            var volumes = await call.Routerd.GetAsync<Page<Volume>>(Routerd.App(call.Get(name), "volumes"), cancel);
            if (call.Json)
                Output.Json(volumes.Items);
            else
                Output.Table(volumes.Value.Items, ("VOLUME", v => v.Name), ("PATH", v => v.Path), ("SIZE", v => Output.Size(v.Bytes)),
                    ("CREATED", v => Output.Ago(v.CreatedAt)));
        });
    }

    private static Verb Export()
    {
        var (name, volume) = (Arguments.App(), Name());
        return new Verb("export", "Writes a volume as tar.gz to standard output; the app is frozen while it is copied.",
            "appoxy volumes export shop data > data.tar.gz") { name, volume }.Does(async (call, cancel) =>
        {
            if (!Console.IsOutputRedirected)
                throw Failure.Usage("a terminal can't show that: send it to a file, as in > data.tar.gz");
            await using var files = await call.Routerd.DownloadAsync(Files(call, name, volume), cancel);
            await using var output = Console.OpenStandardOutput();
            try
            {
                await files.CopyToAsync(output, cancel);
            }
            catch (Exception e) when (e is HttpRequestException or HttpIOException)
            {
                throw new Failure(ExitCodes.Failed, $"the copy broke off and is not whole: {e.Message}");
            }
        });
    }

    private static Verb Import()
    {
        var (name, volume) = (Arguments.App(), Name());
        return new Verb("import", "Replaces what a volume holds by a tar.gz from standard input; the app is stopped for a moment.",
            "appoxy volumes import shop data < data.tar.gz") { name, volume }.Does(async (call, cancel) =>
        {
            if (!Console.IsInputRedirected)
                throw Failure.Usage("give the tar.gz on standard input, as in < data.tar.gz");
            await using var input = Console.OpenStandardInput();
            await call.Routerd.PutAsync(Files(call, name, volume), input, cancel);
            Say(call, "imported", call.Get(volume), $"{call.Get(volume)} of {call.Get(name)} holds what was imported");
        });
    }

    private static Verb Remove()
    {
        var (name, volume) = (Arguments.App(), Name());
        var confirm = new Option<string?>("--confirm") { Description = "The volume's name once more", HelpName = "VOLUME" };
        return new Verb("remove", "Removes a volume with all that it holds; the app is started anew without it.",
            "appoxy volumes remove shop data --confirm data") { name, volume, confirm }.Does(async (call, cancel) =>
        {
            if (call.Get(confirm) != call.Get(volume))
                throw Failure.Usage($"to remove {call.Get(volume)} with all that it holds, add --confirm {call.Get(volume)}");
            await call.Routerd.DeleteAsync(Routerd.App(call.Get(name), $"volumes/{Uri.EscapeDataString(call.Get(volume))}"), cancel);
            Say(call, "removed", call.Get(volume), $"{call.Get(volume)} of {call.Get(name)} is removed");
        });
    }

    private static Argument<string> Name()
    {
        var volume = new Argument<string>("VOLUME") { Description = "The volume's name, such as data" };
        volume.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && !VolumeRules.IsName(token.Value))
                result.AddError(Arguments.UnknownOption(token.Value)
                    ?? $"'{token.Value}' is no volume's name: give up to 32 of a-z, 0-9 and dashes, starting with a letter");
        });
        return volume;
    }

    private static string Files(Call call, Argument<string> name, Argument<string> volume) =>
        Routerd.App(call.Get(name), $"volumes/{Uri.EscapeDataString(call.Get(volume))}/files");

    private static void Say(Call call, string member, string volume, string line)
    {
        if (!call.Json)
        {
            Output.Line(line);
            return;
        }
        Output.Json(json =>
        {
            json.WriteStartObject();
            json.WriteString(member, volume);
            json.WriteEndObject();
        });
    }
}
