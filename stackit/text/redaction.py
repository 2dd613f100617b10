"""Removal of everything that looks like a credential, for texts of foreign origin.

A secret without a form of its own is not found here: a client secret of 40 hex digits looks like a commit.
``stackit.secrets.redactor`` removes the secrets that stackit itself uses, in every form.
"""

from __future__ import annotations

import re

LONGEST = 16_384
"""Characters that a redacted text may have; the rest is cut."""

# The user part of a URL, up to the last @ before the path.
_IN_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15}://)[^/\s]{1,1024}@")
_IN_HEADER = re.compile(r"(?i)\b(bearer|basic|token)( +)[A-Za-z0-9._~+/=-]{8,}")
# As in what says where a database is. Where the closing quote is missing, the rest of the text may be the password.
_PASSWORD = re.compile(r"(?i)\b(password\s{0,8}=\s{0,8})(?:'(?:[^'\\]|\\.)*(?:'|\Z)|[^\s']+)", re.DOTALL)
# Where a credential may begin: at the beginning of a word, and behind an escape, which ends in letters or digits.
_BEGIN = r"(?:\b|(?<=\\[nrtfvb])|(?<=%[0-9A-Fa-f]{2})|(?<=\\x[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4}))"
# A newer token of an installation has a JSON Web Token behind its prefix, and with it dots and hyphens.
_OF_GITHUB = re.compile(rf"{_BEGIN}(?:gh[a-z]_[A-Za-z0-9._-]{{16,}}|github_pat_[A-Za-z0-9_]{{16,}})")
# A token of an installation on an old Enterprise Server.
_OLD_OF_GITHUB = re.compile(rf"{_BEGIN}v1\.[0-9a-f]{{40}}(?![0-9a-f])")
# Where a run of its characters has several beginnings of a token, only the first is tried: what makes a token of a
# later one makes one of the first, and trying each takes seconds for a long run.
_JSON_WEB_TOKEN = re.compile(
    rf"(?<![A-Za-z0-9_-])(?>([A-Za-z0-9_-]*?){_BEGIN}eyJ)[A-Za-z0-9_-]{{8,}}\.[A-Za-z0-9_-]{{8,}}(?:\.[A-Za-z0-9_-]*)*"
)
# In lines, or in one with its ends of line escaped. Where the end is missing, the rest of the text may be the key.
_LABEL = r"(?:[A-Z0-9 +]|%20){0,40}PRIVATE(?:[ +]|%20)KEY-----"
_PRIVATE_KEY = re.compile(rf"-----BEGIN{_LABEL}.*?(?:-----END{_LABEL}|\Z)", re.DOTALL)


def redacted(text: str) -> str:
    """Return ``text`` with everything that looks like a credential replaced by ``***``, cut to ``LONGEST``."""
    # Few lines have a sign of a credential, and a search for signs costs a hundredth of the regular expressions.
    if "://" in text:
        text = _IN_URL.sub(r"\1***@", text)
    lower = text.lower()
    if "bearer " in lower or "basic " in lower or "token " in lower:
        text = _IN_HEADER.sub(r"\1\2***", text)
    if "password" in lower:
        text = _PASSWORD.sub(r"\1***", text)
    if "gh" in text or "github_" in text:
        text = _OF_GITHUB.sub("***", text)
    if "v1." in text:
        text = _OLD_OF_GITHUB.sub("***", text)
    if "-----BEGIN" in text:
        text = _PRIVATE_KEY.sub("***", text)
    if "eyJ" in text:
        text = _JSON_WEB_TOKEN.sub(r"\1***", text)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def may_have_credential(words: str) -> bool:
    """Return True if a credential may be in a line whose values are plain words.

    A credential of a header has a space before it, so no plain word holds one.
    """
    if "://" in words or "eyJ" in words or "-----BEGIN" in words or "password" in words.lower():
        return True
    if "v1." in words and _OLD_OF_GITHUB.search(words) is not None:
        return True
    # "gh" alone is no sign: the name of a secret's file, which the line of a delivery has, often contains it.
    return ("gh" in words or "github_" in words) and _OF_GITHUB.search(words) is not None
