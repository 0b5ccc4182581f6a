using System.Security.Claims;
using System.Threading.RateLimiting;
using Appoxy.Routerd.Users;

namespace Appoxy.Routerd;

/// <summary>
/// How many calls each token, and each address without one, may make: <c>tokenRate</c> and <c>addressRate</c> of routerd.json. Only what
/// is below <c>/v1</c> counts, so that pushes, health checks and metrics go on.
/// </summary>
internal static class RateLimits
{
    public static void AddRateLimits(this IServiceCollection services) => services.AddRateLimiter(o =>
    {
        o.RejectionStatusCode = 429;
        o.OnRejected = (rejected, _) =>
        {
            if (rejected.Lease.TryGetMetadata(MetadataName.RetryAfter, out var wait))
                rejected.HttpContext.Response.Headers.RetryAfter = Math.Max(1, (int)Math.Ceiling(wait.TotalSeconds)).ToString();
            return ValueTask.CompletedTask;
        };
        o.GlobalLimiter = PartitionedRateLimiter.Create<HttpContext, string>(Partition);
    });

    private static RateLimitPartition<string> Partition(HttpContext http)
    {
        if (!http.Request.Path.StartsWithSegments("/v1"))
            return RateLimitPartition.GetNoLimiter("");
        var settings = http.RequestServices.GetRequiredService<RouterdSettings>();
        // A token that is not valid is none: else each guess would be a caller of its own.
        var known = http.User.Identity is { IsAuthenticated: true };
        var who = !known ? "address " + ClientAddress.Network(ClientAddress.Of(http)) : "token " + http.User.FindFirstValue(Caller.TokenClaim);
        return RateLimitPartition.GetTokenBucketLimiter(who, _ => Bucket(known ? settings.TokenRate : settings.AddressRate));
    }

    private static TokenBucketRateLimiterOptions Bucket(string rate)
    {
        if (!RoutingOption.TryParseRate(rate, out var count, out var seconds, out var burst))
            throw new FormatException(rate);
        return new TokenBucketRateLimiterOptions
        {
            TokenLimit = burst + count, TokensPerPeriod = count, ReplenishmentPeriod = TimeSpan.FromSeconds(seconds), QueueLimit = 0,
        };
    }
}
