"""The routes of the pretend API, by what they are about."""
