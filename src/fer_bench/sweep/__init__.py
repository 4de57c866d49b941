"""Many runs: what is left of them, in which order it is done, and how each ends."""
