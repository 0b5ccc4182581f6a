using Humanizer;

if (args is ["work"])
{
    for (var round = 1; ; round++)
    {
        Console.WriteLine($"round {round.ToRoman()} of work");
        await Task.Delay(TimeSpan.FromSeconds(1));
    }
}

var builder = WebApplication.CreateBuilder(args);
builder.WebHost.UseUrls($"http://0.0.0.0:{Environment.GetEnvironmentVariable("PORT")}");
var app = builder.Build();
app.MapGet("/{number:int}", (int number) => $"You are visitor {number.ToRoman()}");
app.Run();
