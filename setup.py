"""Packaging.

``twisted.plugins`` is a namespace without an ``__init__.py``: Twisted looks for
``twistd`` commands in it on every path entry, so it is listed by hand
(``find_packages`` would miss it), and ``package_dir`` stays at the root, because
any other layout gives editable installs an import hook that Twisted cannot list.
"""

from setuptools import find_packages, setup

BUNDLED = {
    "mirror": "stackit.plugins.mirror:Mirror",
    "logger": "stackit.plugins.logger:Logger",
    "ratelimit": "stackit.plugins.ratelimit:RateLimit",
    "metrics": "stackit.plugins.metrics:Metrics",
}

setup(
    name="stackit",
    version="0.1.0",
    description="GitHub webhooks as verified events on a plugin bus, and git mirrors fresh to the second",
    python_requires=">=3.11",
    package_dir={"": "."},
    packages=[*find_packages(include=["stackit", "stackit.*"]), "twisted.plugins"],
    package_data={"stackit": ["py.typed"]},
    install_requires=[
        "twisted[tls]>=25.5",
        "treq>=24.9.1",
        "cryptography>=42",
        "httptools>=0.6.4",
        "lz4>=4.3",
        "pluggy>=1.5",
        "msgspec>=0.19",
        "prometheus_client>=0.20",
    ],
    extras_require={
        "test": ["pytest>=8.2", "pytest-twisted>=1.14.3"],
        # Whom the benchmarks compare with; those that are not on PyPI are in benchmarks/receivers.py.
        "bench": ["gidgethub", "aiohttp", "buildbot", "buildbot-www", "grokmirror"],
        "check": ["ruff", "mypy", "pytest>=8.2", "pytest-twisted>=1.14.3"],
    },
    entry_points={
        "stackit": [f"{name} = {target}" for name, target in BUNDLED.items()],
        "pytest11": ["stackit = stackit.testing.fixtures"],
    },
    zip_safe=False,
)
