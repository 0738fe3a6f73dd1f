from __future__ import annotations

from pathlib import Path

import pytest

from engine.obituary import count_oom_kills, write_obituary


def _tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, None),
        ({"proc/vmstat": "nr_free 3\noom_kill 4\n"}, 4),
        ({"proc/vmstat": "oom_kill junk\n"}, None),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.events": "low 0\noom 5\noom_kill 2\n",
            },
            2,
        ),
        ({"proc/self/cgroup": "0::/host/a\n", "sys/fs/cgroup/memory.events": "oom_kill 3\n"}, 3),
        (
            {
                "proc/self/cgroup": "4:cpu,memory:/x\n1:cpu:/y\n0::/\n",
                "sys/fs/cgroup/memory/x/memory.oom_control": "under_oom 0\noom_kill 6\n",
            },
            6,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/host\n",
                "sys/fs/cgroup/memory/memory.oom_control": "oom_kill 1\n",
                "proc/vmstat": "oom_kill 1\n",
            },
            2,
        ),
    ],
)
def test_oom_kills_are_counted_in_cgroups_v1_and_v2_and_in_the_kernel(
    tmp_path: Path, files: dict[str, str], count: int | None
) -> None:
    assert count_oom_kills(_tree(tmp_path, files)) == count


def test_a_counter_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_bytes(b"\xff\xfe")
    assert count_oom_kills(tmp_path) is None


def test_check_34_a_kill_that_the_kernel_counted_is_named_as_out_of_memory() -> None:
    obituary = write_obituary(-9, 3, 4)
    assert obituary.out_of_memory
    assert "ran out of memory" in obituary.message
    assert "shorter context" in obituary.hint


def test_a_kill_that_the_kernel_did_not_count_came_from_outside() -> None:
    obituary = write_obituary(-9, 3, 3)
    assert not obituary.out_of_memory
    assert "SIGKILL from outside" in obituary.message


@pytest.mark.parametrize(("before", "after"), [(None, None), (1, None), (None, 1)])
def test_a_kill_where_nobody_counts_is_out_of_memory_with_a_doubt(
    before: int | None, after: int | None
) -> None:
    obituary = write_obituary(-9, before, after)
    assert obituary.out_of_memory
    assert "as far as can be told" in obituary.message


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [(3, "exit code 3"), (0, "exit code 0"), (-11, "SIGSEGV"), (-6, "SIGABRT"), (-99, "signal 99")],
)
def test_exit_codes_and_signals_are_named(exit_code: int, words: str) -> None:
    obituary = write_obituary(exit_code, 0, 0)
    assert words in obituary.message
    assert obituary.exit_code == exit_code
    assert not obituary.out_of_memory


def test_this_machine_tells_or_does_not_tell_without_failing() -> None:
    count = count_oom_kills()
    assert count is None or count >= 0
