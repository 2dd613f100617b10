"""The type of secrets in the configuration."""


class Secret(str):
    """Text that does not show in a repr, and so in no traceback or printed Config."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(…)"
