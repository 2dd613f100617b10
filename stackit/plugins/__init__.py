"""The bundled plugins.

Each is an entry point like any other package's. It imports the names of ``stackit`` itself, ``stackit.http.client``,
``stackit.subprocesses`` and its own files: a plugin of yours can do the same.
"""
