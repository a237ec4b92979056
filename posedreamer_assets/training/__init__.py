"""What every training in this project shares: budget and loop, rate, averaged weights, resuming, log, hold-out rule, dtype."""
