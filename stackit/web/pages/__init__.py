"""The pages of the admin side: their frame, the overview, the deliveries and the plugins."""
