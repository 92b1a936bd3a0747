"""`foretrain`: the verb that is asked for, imported on use. Nothing here imports torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module

from analytic.commands.run import run
from analytic.errors import UsageError
from analytic.version import version

# A verb, the module that has it as `VERB`, and its line in the list of verbs.
VERBS: Mapping[str, tuple[str, str]] = {
    "count": ("analytic.commands.count", "parameters, FLOPs and memory of a model"),
    "fits": ("analytic.commands.fits", "does it train on these GPUs, and how large a micro-batch fits"),
    "time": ("analytic.commands.time", "days and dollars of a training run"),
    "plan": ("analytic.commands.plan", "a budget or a machine to a model, its tokens and its loss"),
    "compare": ("analytic.commands.compare", "GPUs next to each other: days, dollars, energy, fit"),
    "check-run": ("analytic.commands.check_run", "a published run, and the MFU that it implies"),
    "law": ("analytic.commands.law", "scaling laws: what one says, and one fitted to your own runs"),
    "list": ("analytic.commands.list", "models, families, GPUs, laws and published runs that are known"),
    "prove": ("empirical.commands.prove", "every formula against every witness (needs torch)"),
    "calibrate": ("empirical.commands.calibrate", "measure this machine, for plans to use (needs torch)"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb. Returns the exit status: 0, 1 where a proof failed, 2 on bad input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return run("foretrain", _overview)
    if arguments[0] == "--version":
        return run("foretrain", _version)
    verb = arguments.pop(0)
    if verb not in VERBS:
        return run("foretrain", lambda: _refuse(verb))
    module, _ = VERBS[verb]
    status: int = import_module(module).VERB.main(arguments)
    return status


def _overview() -> int:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {summary}" for verb, (_, summary) in VERBS.items()]
    sys.stdout.write(
        "\n".join(("usage: foretrain VERB ...", "", *lines, "", "foretrain VERB --help has examples.", ""))
    )
    return 0


def _version() -> int:
    sys.stdout.write(f"foretrain {version()}\n")
    return 0


def _refuse(verb: str) -> int:
    near = get_close_matches(verb, VERBS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(
        f"no verb {verb!r}{hint} expected one of {', '.join(VERBS)}"
        if hint
        else f"no verb {verb!r}: expected one of {', '.join(VERBS)}"
    )


if __name__ == "__main__":
    sys.exit(main())
