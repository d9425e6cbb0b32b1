"""Programs from Debian packages that tests talk to; a test skips by name where one is missing, and fails in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def needs(package: str, *programs: str) -> pytest.MarkDecorator:
    """Skips a test where one of the programs is missing, unless CI=true, which is to have them all."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(
        bool(missing) and os.environ.get("CI") != "true",
        reason=f"needs {', '.join(missing)} (apt install {package})",
    )


needs_prometheus = needs("prometheus", "prometheus", "promtool")
