"""Tests; what they share is in tests.support, slow and obvious twins of the product in tests.reference."""

import pytest

pytest.register_assert_rewrite("tests.support")
