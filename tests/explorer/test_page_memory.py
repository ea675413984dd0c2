"""The memory of the explorer's server over many visits.

It has a file of its own: Playwright, of test_page.py, keeps an event loop running until its end.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
def test_memory_stays_flat_over_visits(
    trained: Path, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    """Visits one after the other, then forty at once; no visit waits for those that ended."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import page_visits

    with page_visits.served(trained) as (address, process):
        one, seconds = asyncio.run(page_visits.memory_over_visits(address, process, 120, 1))
        many, _ = asyncio.run(page_visits.memory_over_visits(address, process, 40, 40))
    record_property("memory", (one, many))
    assert max(one) - min(one) < 120, one  # MiB; measured: 65
    assert max(one[80:]) - max(one[:80]) < 30, one
    assert many[0] - one[-1] < 100, many
    assert max(seconds) < 20  # it was 40 when all visits that ended were cleaned up at once
