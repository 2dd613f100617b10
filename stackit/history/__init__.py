"""The last hour in numbers, by the minute: deliveries, and the time from a push to its mirror."""
