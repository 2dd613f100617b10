"""Webhooks at GitHub: compared with what they should be, made, mended, and given new secrets."""
