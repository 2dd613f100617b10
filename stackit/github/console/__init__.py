"""The page of the admin side about what stackit does at GitHub itself."""
