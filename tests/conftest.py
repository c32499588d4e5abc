"""What tests share is in tests/helpers/fixtures.py; here is who needs it."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Import the fixtures, which takes seconds, unless workers do that and run the tests."""
    hands_out = config.getoption("dist", "no") != "no" and not config.getoption("collectonly")
    if not hands_out or hasattr(config, "workerinput"):
        config.pluginmanager.import_plugin("tests.helpers.fixtures")
