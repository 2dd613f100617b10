"""All of stackit as one Twisted service: its parts, the order in which they start, and the stop."""

from stackit.service.service import Stackit

__all__ = ["Stackit"]
