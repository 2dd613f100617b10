"""The packages; everything else about the distribution is in pyproject.toml.

``twisted.plugins`` is a namespace without an ``__init__.py``: Twisted looks for ``twistd`` commands in it on every
path entry. ``find_packages`` would miss it. ``package_dir`` stays at the root, because any other layout gives editable
installs an import hook that Twisted cannot list.
"""

from setuptools import find_packages, setup

setup(package_dir={"": "."}, packages=[*find_packages(include=["stackit", "stackit.*"]), "twisted.plugins"])
