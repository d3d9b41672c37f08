"""Code, messages and docs use the field's words: home-made ones of the past do not return."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.paths import ROOT

SCANNED = (
    "stream_ad", "connectors", "models", "tests", "benchmarks", "docs", "docker", ".ci",
    "README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml",
)  # fmt: skip
TEXT = {".py", ".md", ".html", ".js", ".css", ".toml", ".yaml", ".yml", ".sh", ""}
EXEMPT = {
    "docs/adr/*": "history: decisions in the words of their time",
    "benchmarks/results/*": "recorded results",
    "tests/house/test_language.py": "the list itself",
}

# Pattern -> what to write. Identifiers are split into words: `told_from` is "told from", `DeadLetter` is "dead letter".
FORBIDDEN = {
    r"tells?|told|telling|tellers?": "emit, publish, report, notify, print; distinguish",
    r"heard": "received; high watermark",
    r"answer(s|ed|ing)? for": "committed, durable",
    r"parked|parks?(?= record)": "the snapshot carries the buffer",
    r"pinned": "min required offset; locked (versions)",
    r"turnstiles?": "rebalance gate",
    r"inbox(es)?": "poll batch",
    r"(?-i:Rounds|Oversight|Vitals|Findings|Notifying)": "batch scorer, monitor, health, decode result, dispatcher",
    r"alike": "batch, same shape, similar",
    r"mend(s|ed|ing)?": "hint, fix",
    r"whoever|whomever|whom": "the caller, the consumer, the operator, the next owner",
    r"(?<!dead )(?<!capital )(?<!lower case )(?<!upper case )(?<!dead-)letters?(?! (and|or) digits)": (
        "dead letter; dead-letter record"
    ),
    r"gratings?|grated": "stripe mask",
    r"(?<!\()echo(es|ed)?(?!\(| \")": "autocorrelation guide",
    r"likeness(es)?": "batch key",
    r"leap(s|ed|t|ing)?(?! (second|year|day))": "gap skip",
    r"hand(s|ed|ing)? (it |them )?(over|up|on)": "deliver, enqueue, pass",
    r"(?<!the )(?<!a )in hand": "in flight",
    r"(gives?|given|giving|gave) back": "release, return",
    r"(takes?|taken|taking|took) back": "retract, withdraw",
    r"of (its|their|his|one's|a series'|the test's|the tests') own": "separate, dedicated, private",
    r"what (is|was) there": "the available data",
    r"comes? to": "is, results in",
    r"(goes|go|went|going) on(?! to\b)": "continue, resume, proceed",
    r"known to be away|(is|are|was|were|be|been|being|goes|gone|while) away": "down, unreachable",
}
WORDS = re.compile("|".join(rf"(?P<w{n}>(?<!\w)(?:{word})(?!\w))" for n, word in enumerate(FORBIDDEN)), re.IGNORECASE)


class Contract(NamedTuple):
    """A word that stays: the text that holds it, where (a glob), and the promise that keeps it."""

    text: str
    where: str
    reason: str


CONTRACTS = [
    Contract('"told_from"', "*", "field of stored series states"),
    Contract('"mend"', "*", "key of `stream-ad check --json`"),
    Contract('"letters"', "*", "key of `stream-ad dlq list --json`"),
    Contract("nab_told", "*benchmarks/*", "key of recorded results"),
    Contract('"told"', "benchmarks/memory/soak.py", "key of recorded results"),
    Contract('"leaps"', "benchmarks/memory/soak.py", "key of recorded results"),
    Contract('"parked"', "tests/*previous_release*", "name of stored fixtures"),
    Contract("`parked`", "tests/fixtures/*", "name of stored fixtures"),
    Contract('["told"]', "tests/fixtures/*", "field of stored series states"),
    Contract('"told"', "stream_ad/detection/*", "field of stored series states"),
    Contract("_told_ns", "stream_ad/pipeline/snapshot.py", "field of stored series states"),
]


class Hit(NamedTuple):
    path: str
    line: int
    word: str
    instead: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word!r} -> {self.instead}: {self.text.strip()[:140]}"


def _files() -> Iterator[Path]:
    for name in SCANNED:
        place = ROOT / name
        yield from sorted(place.rglob("*")) if place.is_dir() else [place]


def _scanned(path: Path) -> bool:
    name = path.relative_to(ROOT).as_posix()
    hidden = "__pycache__" in name or "/." in name
    return path.is_file() and path.suffix in TEXT and not hidden and not any(fnmatch(name, glob) for glob in EXEMPT)


def _as_words(line: str) -> str:
    """Identifiers in parts: `told_from` and `toldFrom` become "told from"."""
    return re.sub(r"(?<=\w)_+(?=\w)|(?<=[a-z0-9])(?=[A-Z])", " ", line).replace("_", " ")


def hits(path: Path) -> Iterator[Hit]:
    name = path.relative_to(ROOT).as_posix()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        left = line
        for contract in CONTRACTS:
            if fnmatch(name, contract.where):
                left = left.replace(contract.text, "")
        for found in WORDS.finditer(_as_words(left)):
            (instead,) = (instead for n, instead in enumerate(FORBIDDEN.values()) if found[f"w{n}"])
            yield Hit(name, number, found[0], instead, line)


def every_hit() -> list[Hit]:
    return [hit for path in _files() if _scanned(path) for hit in hits(path)]


def test_words_of_the_past_do_not_return() -> None:
    found = every_hit()
    assert not found, f"{len(found)} words:\n" + "\n".join(map(str, found))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("def told_early(self): ...", ["told"]),
        ("self.tellEarly()", ["tell"]),
        ("class Rounds: ...", ["Rounds"]),
        ("rounds to the nearest slot", []),
        ("one dead letter, two dead_letters, DeadLetter, dead-letter record", []),
        ("letter.reason", ["letter"]),
        ("capital letters; a leap second", []),
        ("it goes on with what is in hand", ["goes on", "in hand"]),
    ],
)
def test_words_are_found_in_prose_and_in_identifiers(line: str, words: list[str]) -> None:
    assert [found[0] for found in WORDS.finditer(_as_words(line))] == words


def test_each_contract_is_still_in_use() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in _files() if _scanned(path)}
    unused = [
        contract.text
        for contract in CONTRACTS
        if not any(contract.text in text for path, text in texts.items() if fnmatch(str(path), f"*{contract.where}"))
    ]
    assert not unused
