"""A machine type: a named set of words that the hub serves for, as a node's profile would be.

Owns what a type may be called and say; knows no account and no database.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from hpcimg.errors import UsageError
from hpcimg.features import is_meaningful, parse_feature, parse_platform_words
from hpcimg.node.words import profile_from_words, with_offered
from hpcimg.policy import KINDS
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from hpcimg.node.profile import NodeProfile

ANSWERS = ("manifest", "index")
POLICIES = ("", *KINDS)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_PLATFORM = re.compile(r"(darwin|freebsd|linux|windows)/")
_DEFAULT_PLATFORM = "linux/amd64"
_WORDS_LIMIT = 100
_WORD_LIMIT = 512
_DESCRIPTION_LIMIT = 500


@dataclass(frozen=True)
class MachineType:
    """Machines that are alike: `words` are what they offer, a first `linux/ARCHITECTURE` also.

    `answer` says what a tag is answered with: the image's own manifest, or an index with that one
    entry. `policy` overrides the hub's, where it is not empty.
    """

    account: str
    name: str
    words: tuple[str, ...] = field(default=())
    answer: str = "manifest"
    policy: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.account, "account")
        check_name(self.name, "machine type")
        if self.answer not in ANSWERS:
            raise _one_of("answer", self.answer, ANSWERS)
        if self.policy not in POLICIES:
            raise _one_of("policy", self.policy, KINDS)
        if len(self.words) > _WORDS_LIMIT:
            raise UsageError(f"a machine type has at most {_WORDS_LIMIT} features")
        for word in self.words:
            if not word.strip() or not word.isprintable() or len(word) > _WORD_LIMIT:
                raise UsageError(f"{quoted(word)} cannot be a feature of a machine type")
        if len(self.description) > _DESCRIPTION_LIMIT or not _is_line(self.description):
            raise UsageError(
                f"a description is one line of at most {_DESCRIPTION_LIMIT} characters"
            )
        _parts(self.words)

    @property
    def full_name(self) -> str:
        """Its name among all accounts' types, ACCOUNT/NAME."""
        return f"{self.account}/{self.name}"

    @property
    def login_name(self) -> str:
        """The login that stands for it, ACCOUNT-NAME."""
        return f"{self.account}-{self.name}"

    def profile(self) -> NodeProfile:
        """Make the profile of such a machine; words that nothing can offer are left out."""
        return _profile(self.full_name, self.words)

    def check(self) -> None:
        """Raise UsageError for a word that nothing can offer, as a misspelt processor."""
        platform, words = _parts(self.words)
        with_offered(profile_from_words(platform), words)

    def useless_words(self) -> tuple[str, ...]:
        """List the words that will never match: no such processor or version, or a requirement."""
        platform, words = _parts(self.words)
        plain = profile_from_words(platform)
        return tuple(word for word in words if not _is_offered(plain, word))

    def unknown_words(self) -> tuple[str, ...]:
        """List the words that nobody knows: an image is matched only by writing the very same."""
        platform, words = _parts(self.words)
        architecture = platform.split("/")[1]
        useless = self.useless_words()
        features = (f for w in words if w not in useless for f in parse_feature(w, architecture))
        return tuple(dict.fromkeys(f.word for f in features if not is_meaningful(f)))


def check_name(name: str, what: str) -> None:
    """Raise UsageError for a name that an account or a type cannot have."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{quoted(name)} is not the name of {'an' if what[0] in 'aeiou' else 'a'} {what}",
            "use a-z, 0-9, and . _ - after the first character, at most 63 of them",
        )


def split_name(full_name: str) -> tuple[str, str]:
    """Split ACCOUNT/NAME; raises UsageError for what is not of that form."""
    account, slash, name = full_name.partition("/")
    if not slash:
        raise UsageError(
            f"{quoted(full_name)} is not the full name of a machine type", "write ACCOUNT/NAME"
        )
    check_name(account, "account")
    check_name(name, "machine type")
    return account, name


@lru_cache(maxsize=4096)
def _profile(full_name: str, words: tuple[str, ...]) -> NodeProfile:
    platform, rest = _parts(words)
    plain = profile_from_words(platform, node=full_name)
    return with_offered(plain, (word for word in rest if _is_offered(plain, word)))


def _parts(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Part the platform, which a first word may begin with, from the words that are offered."""
    first = words[0].strip().lower() if words else ""
    if not _PLATFORM.match(first):
        return _DEFAULT_PLATFORM, words
    features = parse_platform_words(first)[3]
    return re.split("[:,]", first, maxsplit=1)[0], (*(f.word for f in features), *words[1:])


def _is_offered(plain: NodeProfile, word: str) -> bool:
    try:
        with_offered(plain, (word,))
    except UsageError:
        return False
    return True


def _is_line(text: str) -> bool:
    return not text or text.isprintable()


def _one_of(what: str, given: str, known: tuple[str, ...]) -> UsageError:
    return UsageError(f"{what} is {' or '.join(known)}, not {quoted(given)}")
