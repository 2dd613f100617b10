"""GitHub webhooks as verified events on a plugin bus, and git mirrors fresh to the second.

``from stackit import on`` gives any name of ``stackit.names``. They are imported when the first of them is asked for:
the program ``stackit`` has to run before anything else is imported. So nothing is imported here, not even ``typing``.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stackit.names import *  # noqa: F403 - its __all__ says which
    from stackit.names import __all__ as __all__
    from stackit.names import __version__ as __version__
else:

    def __getattr__(name):
        """Return a public name."""
        if name == "names":  # nobody imported it yet
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import stackit.names as public  # noqa: PLC0415 - see above

        if name not in (*public.__all__, "__all__", "__version__"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(public, name)

    def __dir__():
        """Return the names of this module."""
        import stackit.names as public  # noqa: PLC0415 - see above

        return sorted({*public.__all__, *globals()})
