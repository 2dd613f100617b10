"""The version of stackit that is installed."""

from importlib.metadata import version

VERSION = version("stackit")
