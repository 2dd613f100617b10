"""The pages of the admin side: their frame, the overview and the deliveries."""
