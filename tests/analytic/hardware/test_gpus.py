"""GPUs and prices: what is shipped, how it is found, and what a bad file says."""

from pathlib import Path

import pytest

from analytic.errors import PlannerError
from analytic.hardware.table import load_hardware
from analytic.io.files import configs_dir

# Dense peaks in TFLOP/s as the makers' datasheets give them without sparsity.
DENSE = [
    ("v100-16", "fp16", 125),
    ("t4", "fp16", 65),
    ("a10g", "bf16", 70),
    ("l4", "bf16", 121),
    ("l40s", "bf16", 362),
    ("a100-40", "bf16", 312),
    ("a100-80", "bf16", 312),
    ("rtx4090", "bf16", 165.2),
    ("h100-sxm", "bf16", 989),
    ("h100-sxm", "fp8", 1979),
    ("h100-pcie", "bf16", 756),
    ("h800", "bf16", 989),
    ("h200", "bf16", 989),
    ("b200", "bf16", 2250),
    ("gb200", "bf16", 2500),
    ("mi300x", "bf16", 1307.4),
]


@pytest.mark.parametrize(("key", "dtype", "tflops"), DENSE)
def test_peaks_are_dense(key: str, dtype: str, tflops: float) -> None:
    assert load_hardware().find(key).peak(dtype) == round(tflops * 10**12)


# What torch prints as total_memory, in GiB, and what the cards are sold as.
@pytest.mark.parametrize(
    ("key", "gib", "marketed_gb"),
    [("h100-sxm", "79.18", 80), ("a100-80", "79.25", 80), ("a100-40", "39.49", 40), ("h200", "139.80", 141)],
)
def test_the_capacity_is_what_torch_reports(key: str, gib: str, marketed_gb: int) -> None:
    memory = load_hardware().find(key).memory
    assert f"{memory.total_bytes / 2**30:.2f}" == gib
    assert memory.marketed_bytes == marketed_gb * 10**9
    assert memory.seen_bytes is not None
    assert memory.driver_bytes is not None
    assert memory.seen_bytes[0] <= memory.total_bytes <= memory.seen_bytes[1] < memory.driver_bytes


def test_without_a_reading_the_capacity_is_the_marketed_one_and_unverified() -> None:
    gpu = load_hardware().find("h100-pcie")
    assert gpu.memory_bytes == gpu.memory.marketed_bytes == 80 * 10**9
    assert gpu.memory.seen_bytes is None
    assert "memory_gib" in gpu.unverified
    assert gpu.memory.source == "80 GB as marketed; no reading of total_memory is known"


def test_every_reading_says_where_it_was_read() -> None:
    for gpu in load_hardware().gpus.values():
        assert gpu.memory.source
        assert ("memory_gib" in gpu.unverified) is (gpu.memory.seen_bytes is None)


def test_every_figure_has_a_source() -> None:
    hardware = load_hardware()
    assert all(gpu.source for gpu in hardware.gpus.values())
    assert all(price.source and price.date for price in hardware.prices.values())


@pytest.mark.parametrize(
    ("name", "key"), [("H100", "h100-sxm"), ("a100", "a100-80"), ("V100", "v100-16"), ("4090", "rtx4090")]
)
def test_aliases_in_any_case(name: str, key: str) -> None:
    assert load_hardware().find(name).key == key


def test_names_are_unique() -> None:
    gpus = load_hardware().gpus.values()
    names = [name for gpu in gpus for name in (gpu.key, *gpu.aliases)]
    devices = [name for gpu in gpus for name in gpu.device_names]
    assert len(set(names)) == len(names)
    assert len(set(devices)) == len(devices)


def test_an_unknown_gpu_lists_those_there_are() -> None:
    with pytest.raises(PlannerError, match=r"no GPU 'h1000': expected one of v100-16, .*mi300x"):
        load_hardware().find("h1000")


def test_a_dtype_that_a_gpu_lacks_lists_those_it_has() -> None:
    with pytest.raises(PlannerError, match="v100-16 has no bf16 peak: expected one of fp32, fp16"):
        load_hardware().find("v100").peak("bf16")
    with pytest.raises(PlannerError, match="a100-80 has no fp8 peak"):
        load_hardware().find("a100").peak("fp8")


@pytest.mark.parametrize(
    ("device", "key"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA A100-SXM4-80GB", "a100-80"),
        ("Tesla T4", "t4"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
    ],
)
def test_a_device_is_known_by_its_own_name(device: str, key: str) -> None:
    gpu = load_hardware().of_device(device)
    assert gpu is not None
    assert gpu.key == key


@pytest.mark.parametrize("device", ["NVIDIA H200 NVL", "NVIDIA H20", "NVIDIA A100 80GB PCIe", "", "cpu"])
def test_a_similar_device_is_not_taken_for_another(device: str) -> None:
    assert load_hardware().of_device(device) is None


def test_the_exercise_states_its_own_hardware() -> None:
    hardware = load_hardware(configs_dir() / "exercise_hardware.toml")
    stated = {key: (gpu.peak("fp16"), hardware.prices[key].usd_per_gpu_hour) for key, gpu in hardware.gpus.items()}
    assert stated == {"a100": (312 * 10**12, 4.0), "v100": (125 * 10**12, 2.5), "t4": (65 * 10**12, 1.0)}


GPU = """
[gpus.x]
name = "X"
dense_tflops = { bf16 = 100 }
memory_gb = 24
bandwidth_gb_s = 900
tdp_watts = 300
source = "datasheet"
"""
PRICE = """
[prices.x]
usd_per_gpu_hour = 2
vendor = "someone"
source = "page"
"""
BAD_FILES = {
    "not TOML": ("[gpus.x", "not TOML"),
    "a key twice": (GPU + "memory_gb = 3\n", "not TOML"),
    "no table": ("gpus = 3", "gpus = 3: expected an object"),
    "no entry": ("[gpus]\nx = 3", "x = 3: expected an object"),
    "unknown table": (GPU + "[gpu]\n", "gpu: no such key"),
    "missing memory": (GPU.replace("memory_gb = 24\n", ""), "missing memory_gb"),
    "unknown key": (GPU + "memory = 3\n", "memory: no such key"),
    "no peaks": (GPU.replace("{ bf16 = 100 }", "{}"), "dense_tflops"),
    "unknown dtype": (GPU.replace("bf16", "bf17"), "bf17: no such key"),
    "negative peak": (GPU.replace("100", "-100"), "bf16 = -100"),
    "fractional memory": (GPU.replace("24", "24.5"), "memory_gb = 24.5"),
    "link alone": (GPU + "link_gb_s = 450\n", "missing link_gpus"),
    "GPUs that no link joins": (GPU + "link_gpus = 8\n", "link_gpus = 8: expected none without link_gb_s"),
    "reading alone": (GPU + "memory_gib = 23\n", "missing memory_gib_seen, memory_source"),
    "reading outside of what was seen": (
        GPU + 'memory_gib = 23\nmemory_gib_seen = [23.5, 24]\nmemory_source = "log"\n',
        "memory_gib_seen = [23.5, 24]: expected the lowest and the highest reading, around memory_gib = 23",
    ),
    "driver total as text": (GPU + 'driver_mib = "24564"\n', "driver_mib = '24564'"),
    "aliases no list": (GPU + 'aliases = "y"\n', "aliases = 'y'"),
    "price without GPU": (PRICE, "prices of x"),
    "price of nothing": (GPU + PRICE.replace("= 2", "= 0"), "usd_per_gpu_hour = 0"),
    "price as text": (GPU + PRICE.replace("= 2", '= "2"'), "usd_per_gpu_hour = '2'"),
    "date as text": (GPU + PRICE + 'date = "yesterday"\n', "date = 'yesterday'"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_one_clear_line(case: str, tmp_path: Path) -> None:
    text, expected = BAD_FILES[case]
    path = tmp_path / "hardware.toml"
    path.write_text(text)
    with pytest.raises(PlannerError) as caught:
        load_hardware(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
