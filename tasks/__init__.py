"""What a launch job is: requests, states, verdicts and policies. Pure: no I/O, no clock, no randomness of its own."""
