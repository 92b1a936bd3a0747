"""How a training step is split over GPUs: layouts, what each rank stores, and what it sends."""
