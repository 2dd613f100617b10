"""The bundled plugins.

Each is an entry point like any other package's, and uses only the public names of ``stackit``, but for the children
that the mirror runs, and the text that the logger's lines have in common with all others: whatever one of these does, a
plugin of yours can do.
"""
