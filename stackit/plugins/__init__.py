"""The bundled plugins.

Each is an entry point like any other package's, and uses only the public names of
``stackit``: whatever one of these does, a plugin of yours can do.
"""
