"""The backward file: comments, lines of errors, and the example's figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytic.errors import FileError, PlannerError
from analytic.hardware.table import load_hardware
from analytic.io.files import configs_dir, read_json_object, read_toml
from analytic.io.jsonc import key_lines, read_jsonc, without_comments
from analytic.performance.mfu import Measured
from analytic.planning.backward import BackwardPlan, plan_backward
from analytic.planning.backward_file import load_setup
from analytic.report.backward import backward_document
from analytic.report.json import document_object
from analytic.report.text import document_text
from analytic.scaling.law_file import load_law, load_laws

EXAMPLE = configs_dir() / "backward_scaling_config.json"
HARDWARE = load_hardware()


def plan_of(path: Path) -> BackwardPlan:
    return plan_backward(load_setup(path, HARDWARE), load_laws().values())


# (text, what it means): what looks like a comment inside a string is none, and what looks like a
# string inside a comment is none.
COMMENTED = [
    ('{"a": 1} // end', {"a": 1}),
    ('{"a": 1} // end without newline, and a "quote', {"a": 1}),
    ('// first\n{"a": 1}', {"a": 1}),
    ('/* a\n b */{"a": /* in between */ 1}', {"a": 1}),
    ('{"a": "//"}', {"a": "//"}),
    ('{"a": "/* no */"}', {"a": "/* no */"}),
    ('{"//": 1, "/*": 2, "*/": 3}', {"//": 1, "/*": 2, "*/": 3}),
    (r'{"a": "\" // still a string"}', {"a": '" // still a string'}),
    (r'{"a": "\\"} // a string that ends in a backslash', {"a": "\\"}),
    (r'{"a": "\\\" /* */ b"}', {"a": '\\" /* */ b'}),
    ('{"a": 1 /* "b": 2, */, "c": 3}', {"a": 1, "c": 3}),
    ('{"a": 1 // "b": 2,\n, "c": 3}', {"a": 1, "c": 3}),
    ("{/**/}", {}),
    ("{/***/}", {}),
    ("{/* ** / */}", {}),
    ("{/* /* */}", {}),
    ("{/* // */}", {}),
    ("{// /*\n}", {}),
    ("{// */\n}", {}),
    ('{"a": 1}\r\n// windows\r\n', {"a": 1}),
    ('{"url": "http://x/*y*/z"}', {"url": "http://x/*y*/z"}),
    ('{"a": [1, /* two */ 2, // three\n 3]}', {"a": [1, 2, 3]}),
    ('{"é": "// ü"} // ß', {"é": "// ü"}),
]


@pytest.mark.parametrize(("text", "meaning"), COMMENTED)
def test_comments_are_no_part_of_the_meaning(text: str, meaning: object) -> None:
    stripped = without_comments(text)
    assert json.loads(stripped) == meaning
    assert len(stripped) == len(text)
    assert stripped.count("\n") == text.count("\n")


texts = st.text(st.sampled_from('ab"/*\\\n{}[],: é')) | st.text()
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
)
comments = st.one_of(
    st.text().map(lambda t: "//" + t.replace("\n", "") + "\n"),
    st.text().map(lambda t: "/*" + t.replace("*/", "") .rstrip("*") + "*/"),
    st.just(" "),
)  # fmt: skip


@given(value=st.dictionaries(texts, values, max_size=4), comment=comments, indent=st.sampled_from([None, 1]))
def test_any_json_survives_comments_between_its_lines(value: dict[str, object], comment: str, indent: int) -> None:
    text = json.dumps(value, indent=indent)
    commented = comment + "".join(f"{each}{comment}" for each in text.split("\n"))
    assert json.loads(without_comments(commented)) == value
    assert without_comments(text) == text


@given(value=st.dictionaries(texts, values, max_size=4))
def test_every_key_has_a_line(value: dict[str, object]) -> None:
    lines = key_lines(json.dumps(value, indent=1))
    assert {path[0] for path in lines} == set(value)
    assert list(lines.values()) == sorted(lines.values())


def test_keys_by_path_and_line() -> None:
    text = '{\n"a": {\n"b": [{"x": 1}, "y"],\n"c": 2}, "a2":\n{"b": "{"}}'
    assert key_lines(text) == {("a",): 2, ("a", "b"): 3, ("a", "c"): 4, ("a2",): 4, ("a2", "b"): 5}


@pytest.mark.parametrize(
    ("read", "text"), [(read_json_object, '{"a": 1}'), (read_toml, "a = 1"), (read_jsonc, '{"a": 1} // one')]
)
def test_a_byte_order_mark_is_no_part_of_the_text(read: Callable[[Path], object], text: str, tmp_path: Path) -> None:
    plain, marked = tmp_path / "plain", tmp_path / "marked"
    plain.write_bytes(text.encode())
    marked.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read(marked) == read(plain)


def test_a_comment_without_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{\n"a": 1 /* and so on\n}')
    with pytest.raises(FileError, match=rf"^{path}: line 2: comment /\* without its \*/$"):
        read_jsonc(path)


def test_the_example() -> None:
    plan = plan_of(EXAMPLE)
    assert plan.params.total == 6_885_871_616
    assert plan.compute_flops == 92285568 * 10**14
    assert plan.tokens == plan.affordable_tokens["full"] == 213_100_828_941
    assert plan.affordable_tokens["causal"] == 221_328_318_767
    assert plan.loss == pytest.approx(2.150063, abs=5e-7)
    # 1.8172 + 482.01 / N^0.3478 + 2085.43 / D^0.3658
    assert load_law("besiroglu").loss(plan.law_params, plan.tokens) == pytest.approx(2.149456, abs=5e-7)
    assert float(plan.six_nd_error) == pytest.approx(-0.04597, abs=5e-6)
    assert not plan.dataset_limited
    assert plan.epochs == pytest.approx(0.213100828941, rel=1e-12)
    assert plan.setup.tokens_per_step == 4 * 16 * 8 * 2048
    assert plan.steps == -(-plan.tokens // (4 * 16 * 8 * 2048))
    assert all(check.holds for check in plan.checks())


@pytest.mark.parametrize(("num_gpus", "bound"), [(1, False), (8, True)])
def test_one_gpu_s_mfu_on_many_is_an_upper_bound(num_gpus: int, bound: bool) -> None:
    mfu = Measured(value=0.45, gpu="H100", date="2026-01-02", num_gpus=1, kernel="flash", convention="full")
    plan = plan_backward(replace(load_setup(EXAMPLE, HARDWARE), mfu=mfu, num_gpus=num_gpus), ())
    document = backward_document(plan)
    assert document_object(document)["mfu"]["upper_bound"] is bound
    assert ("upper bound" in document_text(document, is_verbose=True)) is bound


def test_the_example_by_hand() -> None:
    """N and D from the published formulas written out: what the two original documents should have said."""
    v, h, layers, ffn, s = 50_000, 4096, 32, 11_008, 2048
    params = 2 * v * h + layers * (4 * h**2 + 3 * h * ffn + 2 * h) + h
    forward_per_token = layers * (8 * h**2 + 4 * s * h + 6 * h * ffn) + 2 * v * h
    plan = plan_of(EXAMPLE)
    assert plan.params.total == params
    assert plan.flops.training_per_token == 3 * forward_per_token
    assert plan.tokens == round(plan.compute_flops / (3 * forward_per_token))


def edited(tmp_path: Path, old: str, new: str) -> Path:
    text = EXAMPLE.read_text()
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in the example"
    path = tmp_path / "setup.json"
    path.write_text(text.replace(old, new))
    return path


def line_of(text: str) -> int:
    return next(i for i, line in enumerate(EXAMPLE.read_text().split("\n"), 1) if text in line)


def test_data_that_end_first_clip_the_tokens(tmp_path: Path) -> None:
    path = edited(tmp_path, '"dataset_size": 1000000000000,', '"dataset_size": 1000000000,')
    plan = plan_of(path)
    assert plan.dataset_limited
    assert plan.tokens == 100 * 10**9
    assert plan.epochs == 100
    assert plan.loss > load_law("hoffmann").loss(plan.law_params, plan.tokens)  # repeats are worth less
    assert plan.affordable_tokens["full"] == 213_100_828_941


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"base": "hoffmann" ', '"base": "hoffmann", "E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28'),
        ('"base": "hoffmann" ', '"base": "custom", "E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28'),
        ('"gpu_type": "H100",', '"gpu_type": "h100-sxm",'),
        ('"gpu_type": "H100",', '"gpu_type": "H100", "peak_flops_per_gpu": 989e12,'),
        ('"gpu_type": "H100",', '"gpu_type": "one of ours", "peak_flops_per_gpu": 989000000000000,'),
        ('"model_type": "llama", ', ""),
        ('"expected_mfu": 0.45,', '"expected_mfu": 0.45, "attention": "full",'),
    ],
)
def test_other_ways_to_say_the_same(old: str, new: str, tmp_path: Path) -> None:
    plan, example = plan_of(edited(tmp_path, old, new)), plan_of(EXAMPLE)
    assert (plan.tokens, plan.loss, plan.params) == (example.tokens, example.loss, example.params)


def test_the_convention_of_the_mfu_can_be_stated(tmp_path: Path) -> None:
    plan = plan_of(edited(tmp_path, '"expected_mfu": 0.45,', '"expected_mfu": 0.45, "attention": "causal",'))
    assert plan.tokens == 221_328_318_767


# (what to replace, by what, what the error says); it names the line that was replaced
BAD = {
    "less than a token": ('"max_epochs": 100,', '"max_epochs": 1e-13,', "dataset_constraints.max_epochs = 1e-13"),
    "unknown section": ('"output_options": {', '"extra": {}, "output_options": {', "extra: no such key"),
    "missing section": ('"output_options": {', '"output_option": {', "missing output_options"),
    "unknown field": ('"num_gpus": 8,', '"num_gpu": 8,', "missing num_gpus"),
    "another field": ('"num_gpus": 8,', '"num_gpus": 8, "nodes": 2,', "training_gear.nodes: no such key"),
    "field twice": ('"num_gpus": 8,', '"num_gpus": 8, "num_gpus": 9,', 'key "num_gpus" appears twice'),
    "unknown GPU": ('"H100",', '"H1000",', "training_gear.gpu_type = 'H1000'"),
    "GPU a number": ('"H100",', "100,", "training_gear.gpu_type = 100"),
    "no GPUs": ('"num_gpus": 8,', '"num_gpus": 0,', "training_gear.num_gpus = 0"),
    "negative GPUs": ('"num_gpus": 8,', '"num_gpus": -8,', "training_gear.num_gpus = -8"),
    "half a GPU": ('"num_gpus": 8,', '"num_gpus": 8.5,', "training_gear.num_gpus = 8.5"),
    "GPUs as text": ('"num_gpus": 8,', '"num_gpus": "8",', "training_gear.num_gpus = '8'"),
    "GPUs true": ('"num_gpus": 8,', '"num_gpus": true,', "training_gear.num_gpus = true"),
    "too many GPUs": ('"num_gpus": 8,', '"num_gpus": 99999999999,', "training_gear.num_gpus = 99999999999"),
    "no hours": ('"available_hours": 720,', '"available_hours": 0,', "training_gear.available_hours = 0"),
    "hours null": ('"available_hours": 720,', '"available_hours": null,', "training_gear.available_hours = null"),
    "hours NaN": ('"available_hours": 720,', '"available_hours": NaN,', "training_gear.available_hours = nan"),
    "hours infinite": ('"available_hours": 720,', '"available_hours": 1e999,', "training_gear.available_hours = inf"),
    "unknown dtype": ('"dtype": "bf16" ', '"dtype": "bf17" ', "training_gear.dtype = 'bf17'"),
    "negative peak": ('"num_gpus": 8,', '"num_gpus": 8, "peak_flops_per_gpu": -1,', "peak_flops_per_gpu = -1"),
    "no MFU": ('"expected_mfu": 0.45,', '"expected_mfu": 0,', "training_efficiency.expected_mfu = 0"),
    "MFU in percent": ('"expected_mfu": 0.45,', '"expected_mfu": 45,', "training_efficiency.expected_mfu = 45"),
    "MFU as text": ('"expected_mfu": 0.45,', '"expected_mfu": "45%",', "training_efficiency.expected_mfu = '45%'"),
    "no file": ('"expected_mfu": 0.45,', '"expected_mfu": {"calibration": 3},', "expected_mfu.calibration = 3"),
    "unknown attention": ('"expected_mfu": 0.45,', '"expected_mfu": 0.45, "attention": "x",', "attention = 'x'"),
    "no batch": ('"batch_size": 4,', '"batch_size": 0,', "training_efficiency.batch_size = 0"),
    "batch a list": ('"batch_size": 4,', '"batch_size": [4],', "training_efficiency.batch_size = [4]"),
    "dataset a float": ("1000000000000,", "1.5,", "dataset_constraints.dataset_size = 1.5"),
    "dataset too large": ("1000000000000,", "1" + "0" * 30 + ",", "dataset_constraints.dataset_size"),
    "no epochs": ('"max_epochs": 100,', '"max_epochs": 0,', "dataset_constraints.max_epochs = 0"),
    "sequence negative": ('"sequence_length": 2048 ', '"sequence_length": -1 ', "sequence_length = -1"),
    "unknown law": ('"base": "hoffmann"', '"base": "chinchilla"', "scaling_law.base = 'chinchilla'"),
    "no base": ('"base": "hoffmann"', '"E": 1', "missing base"),
    "contradiction": ('"base": "hoffmann"', '"base": "hoffmann", "beta": 0.29', "beta = 0.29: expected 0.28"),
    "custom without B": ('"hoffmann"', '"custom", "E": 1, "A": 2, "alpha": 0.3, "beta": 0.3', "missing B"),
    "option as text": ('"show_breakdown": true,', '"show_breakdown": "yes",', "output_options.show_breakdown = 'yes'"),
    "unknown option": ('"show_breakdown": true,', '"show": true,', "output_options.show: no such key"),
    "unknown family": ('"model_type": "llama", ', '"model_type": "llamo", ', "architecture.model_type = 'llamo'"),
    "negative width": ('"hidden_size": 4096,', '"hidden_size": -4096,', "architecture.hidden_size = -4096"),
    "heads do not divide": ('"hidden_size": 4096,', '"hidden_size": 4097,', "architecture.hidden_size = 4097"),
    "no layers": ('"num_hidden_layers": 32,', '"num_hidden_layers": 0,', "architecture.num_hidden_layers = 0"),
    "missing vocabulary": ('"vocab_size": 50000,', "", "missing vocab_size"),
    "not JSON": ('"num_gpus": 8,', '"num_gpus": 8;', "not JSON"),
    "comment unclosed": ("  // What is printed.", "  /* What is printed.", "comment /* without its */"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_names_field_and_line(case: str, tmp_path: Path) -> None:
    old, new, expected = BAD[case]
    path = edited(tmp_path, old, new)
    with pytest.raises(PlannerError) as caught:
        load_setup(path, HARDWARE)
    message = str(caught.value)
    assert message.startswith(f"{path}: line ")
    assert expected in message
    assert "\n" not in message
    if expected.startswith("missing"):
        assert f": {expected}" in message  # no dotted path: what is missing is no key of the file
    else:
        assert f": line {line_of(old)}" in message


def test_a_dtype_that_the_gpu_lacks(tmp_path: Path) -> None:
    path = edited(tmp_path, '"H100",', '"V100",')
    line = line_of('"dtype"')
    expected = rf"line {line}: training_gear.dtype = 'bf16': v100-16 has no bf16 peak: expected one of fp32, fp16$"
    with pytest.raises(PlannerError, match=expected):
        load_setup(path, HARDWARE)


@pytest.mark.parametrize("value", [3, "x", [], True])
def test_a_section_that_is_none(value: object, tmp_path: Path) -> None:
    raw, _ = read_jsonc(EXAMPLE)
    path = tmp_path / "setup.json"
    path.write_text(json.dumps(raw | {"dataset_constraints": value}))
    with pytest.raises(PlannerError, match=r"line 1: dataset_constraints = .*expected an object"):
        load_setup(path, HARDWARE)


# One token of the example takes 43,306,057,728 FLOPs, 3.379e-9 hours of its machine.
@pytest.mark.parametrize("hours", ["1e-300", "3.37e-9"])
def test_an_hour_too_short_for_a_token(hours: str, tmp_path: Path) -> None:
    path = edited(tmp_path, '"available_hours": 720,', f'"available_hours": {hours},')
    with pytest.raises(PlannerError, match=rf"^{path}: training_gear.available_hours = {hours[:4]}.*one token takes$"):
        plan_of(path)


def test_an_hour_long_enough_for_a_token(tmp_path: Path) -> None:
    path = edited(tmp_path, '"available_hours": 720,', '"available_hours": 3.38e-9,')
    assert plan_of(path).tokens == 1
