"""The admin side: who may ask, what is answered, the routes for deliveries."""
