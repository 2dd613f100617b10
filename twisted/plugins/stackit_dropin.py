"""Makes ``twistd stackit`` known to Twisted."""

from twisted.application.service import ServiceMaker

stackit = ServiceMaker(
    "stackit",
    "stackit.tap",
    "GitHub webhooks as events on a plugin bus, and fresh git mirrors.",
    "stackit",
)
