"""Rows of the study: whole or absent, one process each."""

import subprocess
import sys

from benchmarks.zoo.rows import RowStore, read_rows


def test_a_row_is_whole_or_absent(tmp_path):
    store = RowStore(tmp_path)
    assert not store.has("encoder/fashion/ae16")
    store.write("encoder/fashion/ae16", {"reconstruction": 0.5})
    assert store.read("encoder/fashion/ae16") == {"reconstruction": 0.5}
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["ae16.json"]


def test_a_run_is_claimed_once_and_given_back(tmp_path):
    store = RowStore(tmp_path)
    with store.claim("encoder/a") as mine:
        assert mine
        with RowStore(tmp_path).claim("encoder/a") as also:
            assert not also
    with store.claim("encoder/a") as again:
        assert again
        store.write("encoder/a", {})
    with store.claim("encoder/a") as done:
        assert not done


def test_the_claim_of_a_dead_process_is_taken_over(tmp_path):
    store = RowStore(tmp_path)
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "a.claim").write_text(dead.stdout.decode().strip())
    with store.claim("encoder/a") as mine:
        assert mine


def test_rows_come_back_by_kind_in_the_order_of_their_keys(tmp_path):
    store = RowStore(tmp_path)
    for key in ("b", "a"):
        store.write(f"encoder/fashion/{key}", {"encoder": key})
    assert [row["encoder"] for row in store.rows("encoder")] == ["a", "b"]
    assert store.rows("generator") == []
    assert read_rows(tmp_path)["generator"] == []
