"""The largest and smallest figures that are accepted anywhere: no model, machine or plan lies outside.

Each is far from anything published, so that a refusal means a typing error, and near enough that no arithmetic
overflows or divides by zero on the way.
"""

MAX_LAYERS = 10_000
MAX_DIMENSION = 2**24  # 64 times the widest vocabulary published; keeps every tensor below 2**63 elements
MAX_PARAMETERS = 10**15  # a thousand times the largest model published

MOST_GPUS = 10**9
MOST_HOURS = 1e7
MOST_DAYS = 10**5
LEAST_GPU_HOURS, MOST_GPU_HOURS = 1e-6, 1e12
MOST_TOKENS = 10**18
MOST_EPOCHS = 1e6
MOST_DECADES = 20.0
MOST_FLOPS = 1e32  # a million times the largest run published
MOST_USD = 1e15  # ten times what the world earns in a year
LEAST_USD_PER_GPU_HOUR, MOST_USD_PER_GPU_HOUR = 1e-6, 1e6
MOST_PEAK_FLOPS_PER_S = 1e21
