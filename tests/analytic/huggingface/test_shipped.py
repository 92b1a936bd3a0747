"""Names of models: shipped ones in any spelling, paths, folders, and the nearest to a name that nobody has."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytic.errors import UsageError
from analytic.huggingface.shipped import find_model, shipped_models
from analytic.io.files import configs_dir, model_config_paths


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("llama-3-8b", "models/llama-3-8b.json"),
        ("Qwen/Qwen3-8B", "models/qwen3-8b.json"),
        ("deepseek-v3", "deepseek_v3_config.json"),
        ("deepseek-ai/DeepSeek-V3", "deepseek_v3_config.json"),
        ("llama-7b", "llama_7b_config.json"),
        ("LLAMA_3.1_8B", "models/llama-3.1-8b.json"),
        ("llama-31-8b", "models/llama-3.1-8b.json"),
        ("dots llm1", "models/dots.llm1.json"),
        ("gpt2/", "models/gpt2.json"),
    ],
)
def test_a_shipped_name_in_any_spelling(name: str, file: str) -> None:
    assert find_model(name) == configs_dir() / file


def test_every_shipped_configuration_is_found_by_its_own_name() -> None:
    shipped = shipped_models()
    assert sorted(shipped.values()) == model_config_paths()
    assert [find_model(name) for name in shipped] == list(shipped.values())


def test_what_exists_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_model("gpt2") == configs_dir() / "models" / "gpt2.json"
    (tmp_path / "gpt2").mkdir()
    assert find_model("gpt2") == configs_dir() / "models" / "gpt2.json"  # a folder without a configuration
    (tmp_path / "gpt2" / "config.json").touch()
    assert find_model("gpt2") == find_model(Path("gpt2")) == Path("gpt2/config.json")
    (tmp_path / "opt-1.3b").touch()
    assert find_model("opt-1.3b") == Path("opt-1.3b")
    assert find_model("nowhere/none.json") == Path("nowhere/none.json")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("llama-3-9b", "llama-3-8b"), ("qwen38", "qwen3-8b"), ("Qwen/Qwen3-80B", "qwen3-8b"), ("mixtral", "mixtral-8x7b")],
)
def test_an_unknown_name_gets_the_three_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=rf"^no model '{name}': did you mean ") as refused:
        find_model(name)
    suggested = str(refused.value).partition("did you mean ")[2].partition("?")[0].split(", ")
    assert len(suggested) == 3
    assert nearest in suggested


@pytest.mark.parametrize("name", ["", "/", "?" * 5000, "\0", "\ud800", "a\nb"])
def test_any_text_is_refused_on_one_short_line(name: str) -> None:
    with pytest.raises(UsageError, match=r"^no model ") as refused:
        find_model(name)
    assert len(str(refused.value)) <= 300
    assert "\n" not in str(refused.value)
