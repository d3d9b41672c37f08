"""The examples in docstrings run and print what they show."""

from __future__ import annotations

import doctest
import importlib
import re

import pytest

from tests.support.paths import ROOT

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "stream_ad").rglob("*.py")
    if re.search(r"^\s*>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)
)


def test_the_public_classes_have_an_example() -> None:
    sdk = {"stream_ad.sdk.arrays", "stream_ad.sdk.client", "stream_ad.sdk.detector"}
    assert sdk | {"stream_ad.ports.scorer", "stream_ad.ports.sink"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert result.attempted
    assert not result.failed
