"""The admin side: access, routing, answers, the routes for deliveries."""
