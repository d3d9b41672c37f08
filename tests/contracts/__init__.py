"""Contract checks: written against the ports alone, run over every adapter that claims one.

`check_sink`, `check_source`, `check_state_store` and `check_profile_store` know no implementation; `test_embedded.py`
runs them over the embedded ones, the integration tests over Kafka and InfluxDB.
"""

import pytest

pytest.register_assert_rewrite(
    "tests.contracts.check_profile_store",
    "tests.contracts.check_sink",
    "tests.contracts.check_sink_alerts",
    "tests.contracts.check_source",
    "tests.contracts.check_state_store",
)
