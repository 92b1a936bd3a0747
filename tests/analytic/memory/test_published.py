"""Published peaks: errors by metric, the printed table, and files that are wrong."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import median

import pytest

from analytic.errors import FileError
from analytic.memory import megatron, torchtitan
from analytic.memory.published import compare, errors, main, published_path, table
from tests.test_house import ROOT

COLUMNS = "id,framework,model,config,seq_len,micro_batch,method,recompute,dp,tp,pp,vpp,peak_mem_gib,mem_metric"
ALLOCATED = "torch max_memory_allocated"


@pytest.fixture(scope="module")
def shipped() -> dict[str, float]:
    return {one.id: one.error for one in compare(published_path()) if one.predicted_gib is not None}


def test_bytes_allocated_are_within_two_and_five_percent(shipped: dict[str, float]) -> None:
    with published_path().open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for framework in ("Megatron", "nanotron"):
        own = [shipped[row["id"]] for row in rows if row["framework"].startswith(framework)]
        found[framework] = len(own)
        assert median(map(abs, own)) <= 2.0
        assert max(map(abs, own)) <= 5.0
    assert found == {"Megatron": 10, "nanotron": 11}


def test_origins_state_the_errors() -> None:
    groups = {(group.framework, group.metric): group for group in errors(compare(published_path()))}
    te, titan = groups["megatron-te", "allocated"], groups["torchtitan", "reserved"]
    assert f"median |error| {te.median_absolute:.1f}% on {te.rows} published rows" in megatron.ORIGIN
    assert f"median |error| {titan.median_absolute:.1f}% on {titan.rows} published rows" in torchtitan.ORIGIN
    assert f"{torchtitan.RESERVED} x allocated" in torchtitan.ORIGIN


def test_errors_are_signed_and_by_metric(shipped: dict[str, float]) -> None:
    (group,) = [one for one in errors(compare(published_path())) if one.framework == "nanotron"]
    own = [shipped[f"M{number}"] for number in range(157, 168)]
    assert (group.metric, group.rows, group.median) == ("allocated", 11, median(own))
    assert group.worst == min(own) < 0
    assert group.median_absolute == median(map(abs, own))


def test_a_row_without_a_formula_says_so() -> None:
    reasons = {one.id: one.reason for one in compare(published_path()) if one.reason}
    assert reasons == dict.fromkeys(("M174", "M176", "M179"), "no formula for litgpt+thunder Eager")


def test_the_page_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed == table(compare(published_path()))
    assert printed in (ROOT / "docs" / "layouts.md").read_text(encoding="utf-8")


def written(folder: Path, *rows: str, columns: str = COLUMNS) -> Path:
    path = folder / "rows.csv"
    path.write_text("\n".join((columns, *rows)) + "\n", encoding="utf-8")
    return path


def test_a_file_of_ones_own_may_give_the_shape_in_columns(tmp_path: Path) -> None:
    shape = "hidden,layers,heads,kv_heads,ffn,vocab"
    (one,) = [row for row in compare(published_path()) if row.id == "M204"]
    path = written(
        tmp_path,
        f"X,Megatron-LM,llama,,4096,1,full training,none,1,8,1,1,28.29,{ALLOCATED},8192,12,64,8,28672,128256",
        columns=f"{COLUMNS},{shape}",
    )
    (found,) = compare(path)
    assert (found.predicted_gib, found.error) == (one.predicted_gib, one.error)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("X,torchtitan,m,,8192,1,LoRA r=8,none,1,1,1,1,20,reserved", "fine-tuning, for which there is no formula yet"),
        ("X,DeepSpeed,m,,8192,1,full training,none,1,1,1,1,20,nvidia-smi", "no formula for DeepSpeed"),
        ("X,Megatron-LM,m,,8192,1,full training,most,1,1,1,1,20,other", "recompute = most"),
        ("X,Megatron-LM,m,,8192,1,full training,none,1,1,1,1,20,other", "neither a config nor the columns"),
        ("X,nanotron,m,{config},8192,1,full training,full,1,1,1,1,20,other", "recompute = full: nanotron"),
        ("X,Megatron-LM,m,{config},8192,1,full training,none,1,3,1,1,20,other", "tp = 3: expected a divisor"),
    ],
)
def test_a_row_that_is_not_predicted_stays_with_a_reason(tmp_path: Path, row: str, reason: str) -> None:
    keys = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 96}
    pairs = "".join(f', ""{key}"": {value}' for key, value in {**keys, "vocab_size": 128}.items())
    (found,) = compare(written(tmp_path, row.replace("{config}", f'"{{""model_type"": ""llama""{pairs}}}"')))
    assert found.predicted_gib is None
    assert reason in found.reason
    assert reason in table([found])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("X,nanotron,m,,8192,1,full training,none,1,1,1,1,much,other", "line 2: peak_mem_gib = 'much'"),
        ("X,nanotron,m,,8192,1,full training,none,1,1.5,1,1,20,other", "line 2: tp = '1.5': expected a whole number"),
        ("X,nanotron,m,,8192,1,full training,none,0,1,1,1,20,other", "line 2: dp_shard = 0"),
        ("X,nanotron,m,{,8192,1,full training,none,1,1,1,1,20,other", "line 2: config: line 1, column 2: not JSON"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path: Path, row: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(written(tmp_path, row))]) == 2
    assert message in capsys.readouterr().err


def test_a_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no column framework"):
        compare(written(tmp_path, columns="id,model"))
