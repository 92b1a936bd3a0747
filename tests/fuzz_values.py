"""What the fuzzed files and command lines are made of: mostly what is wrong, and a little that is right."""

from __future__ import annotations

from collections.abc import Sequence

# What a value is replaced by, as it is spelled in a file.
NUMBERS = (
    *("0", "-1", "1", "2", "3", "7", "64", "0.5", "-0.0", "1.5", "1e-9", "5e-324", "1e-300", "1e308", "1.7e308"),
    *("2147483648", "9223372036854775808", "1000000000000000000", "1" + "0" * 400, "9" * 5000),
)
JSON_VALUES = (
    *NUMBERS,
    *(
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "-Infinity",
        "true",
        "false",
        "null",
        '""',
        '"x"',
        '"\\ud800"',
        '"\\u0000"',
    ),
    *("[]", "{}", "[1]", '{"a": 1}', "[" * 40 + "]" * 40, "[" * 60 + "]" * 60, "[" * 900 + "]" * 900),
    *('"' + "x" * 400 + '"', '"bf16"', '"fp8"', '"llama"', '"full_attention"', "[0, 1, 2]", "[true, null]"),
)
TOML_VALUES = (
    *NUMBERS,
    *("inf", "-inf", "nan", "true", "false", '""', '"x"', "[]", "{}", "[1]", "[1, 2]", "[-1, 5e-324]", "[1, 1e308]"),
    *("1979-05-27", "07:32:00", "0x" + "f" * 5000, "[" * 60 + "]" * 60, "{a = 1}", '"' + "x" * 400 + '"', "'h100'"),
    *("1_0", "1e400", "[1e-300, 1e300]", "[1, 1" + "0" * 400 + "]"),
)
WORDS = (
    *NUMBERS,
    *(
        "",
        "x",
        "-",
        "--",
        "nan",
        "inf",
        "1e999",
        "h100",
        "h100=2",
        "h100=5e-324",
        "t4",
        "v100-32=1e6",
        "h100=0.4",
        "=1",
    ),
    *("full", "causal", "half", "none", "bf16", "fp16", "fp32", "fp8", "dense", "moe", "eager", "flash", "adamw"),
    *("hoffmann", "besiroglu", "80", "a100-80", "/", "\ud800", "\0", "é", "\x1b[2J", "a\nb", "x" * 5000),
)
LENGTHS = ("1", "8", "4k", "4096", "999999", "16777216")
GPUS = ("h100", "a100-80", "t4", "v100-32", "h100=2", "h200=5e-324", "b200=1e6", "a100-40=1e-6", "h100=1e308")
MACHINES = (
    "8xh100",
    "1xt4",
    "512xh100=2.5",
    "1x80GiB",
    "1x1",
    "1000000000xb200=1e-6",
    "h100",
    "0xh100",
    "8xh100=5e-324",
)
AXES = ("1", "2", "3", "8", "512", "1048576", "1e9")
DTYPES = ("bf16", "fp16", "fp32", "tf32", "fp8")
TOKENS = ("1", "1e6", "15T", "1e18", "1e19")
ATTENTION = ("full", "causal", "half")
MFUS = ("0.4", "1", "40%", "1e-9", "5e-324", "h100=0.5", "t4=1e-300")
DAYS = ("1", "30", "1e5", "1e-9", "5e-324")
STEP: dict[str, Sequence[str]] = {  # a step's options, with what their values may be
    "--seq-len": LENGTHS,
    "--micro-batch": LENGTHS,
    "--precision": DTYPES,
    "--optimizer": ("none", "adamw_fused", "adamw_foreach"),
    "--attention-kernel": ("eager", "flash", "efficient", "cudnn"),
    "--recompute": ("none", "full"),
}
RUN: dict[str, Sequence[str]] = {
    **{"--tokens": TOKENS, "--mfu": MFUS, "--dtype": DTYPES, "--seq-len": LENGTHS, "--attention": ATTENTION},
}
OPTIONS: dict[str, dict[str, Sequence[str]]] = {
    "count": STEP
    | {"--batch-size": LENGTHS, "--attention": ATTENTION, "--rounding": ("1", "512"), "--mtp": ()}
    | dict.fromkeys(("--master-weights", "--accumulating"), ()),
    "fits": STEP
    | dict.fromkeys(("--tp", "--pp", "--cp", "--ep", "--etp", "--dp-shard", "--dp-replicate"), AXES)
    | {
        **{"--gpus": MACHINES, "--reserve": ("0", "2GB", "1e9GB"), "--virtual-stages": AXES, "--global-batch": LENGTHS},
        "--stack": ("transformers-fsdp2", "torchtitan", "megatron-te"),
        "--pipeline-schedule": ("gpipe", "1f1b", "interleaved-1f1b", "zbv"),
    },
    "time": RUN | {"--gpus": MACHINES},
    "compare": RUN | {"--gpu": GPUS, "--num-gpus": ("1", "8", "1e9"), "--days": DAYS},
    "plan": {
        **{"--gpu": GPUS, "--mfu": MFUS, "--dtype": DTYPES, "--attention": ATTENTION, "--days": DAYS},
        **dict.fromkeys(("--vocab-size", "--seq-len", "--micro-batch"), LENGTHS),
        "--budget": ("1e-6", "0.01", "1", "100", "100k", "5e6", "1e9", "1e15", "1e16"),
        "--law": ("hoffmann", "besiroglu", "muennighoff", "exercise", "kaplan", "ludziejewski", "deepseek", "llama-3"),
        "--kind": ("dense", "moe"),
        "--num-gpus": ("1", "8", "1e9"),
        "--params": ("1", "8B", "1e12", "1e15"),
        "--inference-tokens": TOKENS,
        "--inference-mfu": ("0.1", "1", "5e-324"),
        "--inference-gpu": GPUS,
        "--dataset-tokens": TOKENS,
        "--max-epochs": ("1", "4", "1e6", "1e-9", "5e-324"),
        **dict.fromkeys(("--setup", "--calibration", "--write-config", "--plot"), ("/", "none", "")),
    },
}

FIT: dict[str, Sequence[str]] = {
    "--columns": ("N=N", "N=D,D=N", "loss=unique_tokens", "loss=D", "N=N,N=N", "=", "N="),
    **dict.fromkeys(("--unique-column", "--schedule-column", "--config-column"), ("unique_tokens", "N", "x", "")),
    "--form": ("additive", "tied", "zero_e", "repeats", "coupled"),
    "--prior": ("none", "published", "/", "configs/laws/prior.toml", "configs/gpus.toml"),
    "--objective": ("huber-1e-3", "mad"),
    "--n-means": ("non_embedding", "total"),
    "--min-ratio": ("0", "1e-9", "1", "20", "1e9", "-1", "nan"),
    "--hold-out": ("0.1", "1", "2", "20", "1e-9", "0"),
    "--predict": ("N=8B,D=2T", "N=1,D=1", "N=1e15,D=1e18", "N=1,D=1e18", "N=1e15,D=1", "N=1B,D=1T,U=1", "N=x,D=1"),
    "--flops": ("1e23", "1e-9", "1", "1e32", "5e-324", "1e33"),
    "--write-law": ("my.toml", "/my.toml", "besiroglu.toml", "x", "my law.toml"),
    "--plot": ("law.png", "law.svg", "/nowhere/x.svg", "x"),
    "--strict": (),
}
