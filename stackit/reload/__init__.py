"""A reload: the difference of two configurations, taken by the parts of the running stackit, all of it or nothing."""
