"""HTML: templates that escape what they are given, and the macros that every page shares."""
