"""Texts that may hold a credential, without it."""

from __future__ import annotations

import re

LONGEST = 16_384
"""Characters of a text after which it is cut."""

# The user part of a URL, up to the last @ before the path.
_IN_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15}://)[^/\s]{1,1024}@")
_IN_HEADER = re.compile(r"(?i)\b(bearer|basic|token)( +)[A-Za-z0-9._~+/=-]{8,}")
# A newer token of an installation has a JSON Web Token behind its prefix, and with it dots and hyphens.
_OF_GITHUB = re.compile(r"\b(?:gh[a-z]_[A-Za-z0-9._-]{16,}|github_pat_[A-Za-z0-9_]{16,})")
_JSON_WEB_TOKEN = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*")


def redacted(text: str) -> str:
    """``text`` of bounded length, with what looks like a credential replaced."""
    # Hardly a line has a sign of one, and looking for signs costs a hundredth of looking for the patterns.
    if "://" in text:
        text = _IN_URL.sub(r"\1***@", text)
    lower = text.lower()
    if "bearer " in lower or "basic " in lower or "token " in lower:
        text = _IN_HEADER.sub(r"\1\2***", text)
    if "gh" in text or "github_" in text:
        text = _OF_GITHUB.sub("***", text)
    if "eyJ" in text:
        text = _JSON_WEB_TOKEN.sub("***", text)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def may_have_credential(words: str) -> bool:
    """Whether plain words, none of which has a space in it, show a sign of one: that of a header has spaces."""
    if "://" in words or "eyJ" in words:
        return True
    # The file of a secret, which a line of a delivery names, may well have "gh" in its name.
    return ("gh" in words or "github_" in words) and _OF_GITHUB.search(words) is not None
