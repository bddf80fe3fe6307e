"""Large imports: the collector rests while they run, works again whatever happens, and does not hold the end of the process up."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from compliance_assets.heavy import heavy_import


def test_the_collector_rests_during_a_first_import_only() -> None:
    with heavy_import("a_module_that_nobody_has_imported"):
        assert not gc.isenabled()
        with heavy_import("another_one"):
            assert not gc.isenabled()
        assert not gc.isenabled(), "the inner import does not end the outer one's rest"
    assert gc.isenabled()
    with heavy_import("sys"):
        assert gc.isenabled()


def test_it_works_again_after_an_import_that_fails() -> None:
    with pytest.raises(ImportError), heavy_import("a_module_that_nobody_has_imported"):
        raise ImportError("no such library")
    assert gc.isenabled()


def test_at_the_end_of_the_process_nothing_is_left_to_look_through() -> None:
    # Handlers run last first: this one, registered before, sees what the import's own has done.
    program = ("import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 0));"
               "from compliance_assets.heavy import heavy_import\nwith heavy_import('decimal'): import decimal\n"
               "assert gc.get_freeze_count() == 0")
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)
    assert done.stdout.split() == ["True"]
