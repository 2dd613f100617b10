"""Talk to a remote directly over HTTP, in git's protocol v2, without a process."""
