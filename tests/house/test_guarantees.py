"""docs/guarantees.md names tests that exist."""

from __future__ import annotations

import re

from tests.support.paths import ROOT


def test_each_guarantee_names_an_existing_test() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / "docs" / "guarantees.md").read_text())
    assert len(named) > 15
    for path, name in named:
        assert re.search(rf"def {name}\(", (ROOT / path).read_text()), f"{path} has no {name}"
