"""Options: one table in which a flag means the same for every verb, numbers as people write them, the nearest flag."""

from __future__ import annotations

import argparse
from importlib import import_module

import pytest

from analytic.commands.options import FLAGS, Parser
from analytic.commands.verb import Verb
from empirical.commands.main import VERBS
from tests.commands import facts, printed, refusal

# Options that take several values of the table's kind, which only `calibrate` does.
LISTS = {("calibrate", name) for name in ("seq_len", "micro_batch", "precision", "attention_kernel")}
OWN = {  # options of one verb alone
    *(("prove", name) for name in ("sweep", "perturb", "calibration_out", "layout", "layouts")),
    *(("calibrate", name) for name in ("resume", "compile")),
}


def verb(name: str) -> Verb:
    found: Verb = import_module(VERBS[name][0]).VERB
    return found


def options(name: str) -> dict[str, argparse.Action]:
    """Every option of a verb by its name in the parsed arguments."""
    return {a.dest: a for a in verb(name)._parser()._actions if a.option_strings and a.dest not in ("help", "verbose")}


def test_every_flag_of_the_table_is_used_and_every_option_is_of_the_table() -> None:
    used = {(name, dest) for name in VERBS for dest in options(name)}
    assert {dest for _, dest in used - OWN} == FLAGS.keys()
    assert used >= LISTS | OWN


@pytest.mark.parametrize("name", VERBS)
def test_a_flag_means_the_same_for_every_verb(name: str) -> None:
    for dest, action in options(name).items():
        if (name, dest) in OWN:
            continue
        flag, option = FLAGS[dest], f"--{dest.replace('_', '-')}"
        assert action.choices == flag.choices
        if (name, dest) in LISTS:
            assert (action.option_strings, action.nargs) == ([option], "+")
            continue
        assert action.option_strings == [option, *flag.aliases]
        assert action.metavar == flag.metavar
        assert action.nargs == (0 if flag.is_switch else None)


@pytest.mark.parametrize("name", VERBS)
def test_help_has_two_examples_that_name_its_verb(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, name, "--help")
    shown = [line.strip() for line in text.partition("\nexamples:\n")[2].splitlines()]
    assert len(shown) == 2
    assert all(line.startswith(f"foretrain {name} ") for line in shown)
    assert tuple(shown) == verb(name).examples


@pytest.mark.parametrize("name", VERBS)
def test_examples_parse(name: str) -> None:
    for example in verb(name).examples:
        assert verb(name)._parser().parse_args(example.split()[2:]) is not None


def test_older_spellings_are_the_same_flags(capsys: pytest.CaptureFixture[str]) -> None:
    old = facts(capsys, "count", "llama-3.2-1b", "--checkpointing", "full", "--dtype", "fp16")
    assert old == facts(capsys, "count", "llama-3.2-1b", "--recompute", "full", "--precision", "fp16")
    assert old["memory"]["setup"]["precision"] == "fp16"
    assert old["flops"]["checkpointing"] == "full"
    time = ("time", "llama-3-8b", "--tokens", "1T", "--gpus", "8xh100")
    assert facts(capsys, *time, "--precision", "fp8") == facts(capsys, *time, "--dtype", "fp8")


@pytest.mark.parametrize(
    ("option", "text", "key", "value"),
    [
        ("--seq-len", "2k", "seq_len", 2048),
        ("--seq-len", "2,048", "seq_len", 2048),
        ("--seq-len", "1e3", "seq_len", 1000),
        ("--seq-len", "512", "seq_len", 512),
        ("--batch-size", "1k", "batch_size", 1000),
    ],
)
def test_lengths_and_batches_as_people_write_them(
    option: str, text: str, key: str, value: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert facts(capsys, "count", "llama-7b", option, text)["flops"][key] == value


@pytest.mark.parametrize("budget", ["1M", "1,000,000", "1e6", "1000k", "1 M", "0.001b", "1000000.0"])
def test_a_budget_as_people_write_it(budget: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert facts(capsys, "plan", "--budget", budget, "--gpu", "h100")["budget_usd"] == 1e6


@pytest.mark.parametrize(("text", "value"), [("45%", 0.45), ("0.45", 0.45), (".45", 0.45), ("h100=45%", 0.45)])
def test_an_mfu_as_people_write_it(text: str, value: float, capsys: pytest.CaptureFixture[str]) -> None:
    assert facts(capsys, "plan", "--budget", "1M", "--gpu", "h100", "--mfu", text)["mfu"]["value"] == value


def test_a_vocabulary_as_people_write_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "plan", "--budget", "1M", "--gpu", "h100", "--vocab-size", "32k", "--seq-len", "2k")
    assert found["architecture"]["vocab_size"] == 32_000  # no context length: k is a thousand
    assert found["seq_len"] == 2048


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--seq-len", "0"), "argument --seq-len: '0': expected a whole number from 1 to 16,777,216"),
        (("--seq-len=-5",), "argument --seq-len: '-5': expected a number such as 200k"),
        (("--seq-len", "99999999999"), "expected a whole number from 1 to 16,777,216"),
        (("--seq-len", "1.5"), "'1.5': expected a whole number"),
        (("--seq-len", "99999k"), "'99999k': expected a whole number"),
        (("--batch-size", "1.5"), "'1.5': expected a whole number"),
        (("--batch-size", "3%"), "'3%': expected a whole number"),
        (("--micro-batch", "0"), "'0': expected a whole number"),
        (("--seq-len",), "argument --seq-len: expected one argument"),
        (("--nonsense",), "unrecognized argument --nonsense"),
        (("--seq", "8"), "unrecognized argument --seq"),  # no abbreviations
        (("--sq-len", "8"), "unrecognized argument --sq-len; did you mean --seq-len?"),
        (("--recomput=full",), "unrecognized argument --recomput=full; did you mean --recompute?"),
        (("--batch-size", "1", "--batch-size", "2"), "argument --batch-size: given twice"),
        (("--precision", "fp16", "--dtype=bf16"), "given twice, expected once"),
        (("stray",), "unrecognized argument stray"),
    ],
)
def test_bad_options_are_one_line(argv: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refusal(capsys, "count", "llama-7b", *argv)


def test_a_parser_of_two_runs_takes_an_option_in_each() -> None:
    parser = Parser(prog="p", description=None)
    parser.add_argument("--x")
    assert [parser.parse_args(["--x", value]).x for value in "ab"] == ["a", "b"]
