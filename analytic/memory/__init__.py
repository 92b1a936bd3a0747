"""Peak memory, predicted: schedules of allocations and frees, for named implementations, without torch.

`tape` and `tensors` are the machine: shapes with names, storages freed with their last reference, autograd's
nodes run backward in the engine's order. `ops`, `expert_ops` and `collectives` are the operators, `blocks`,
`attention`, `moe`, `decoder` and `model` what `transformers` does with them, line by line. `local` gives the shapes
of a tensor-parallel rank. `layer` and `step` read peaks off the schedules, `schedule` is where callers begin,
`capacity` inverts it, `cuda` lists what only a GPU shows.

`rank` is the schedule of one rank of FSDP2: `fsdp_overlay` puts what FSDP2 does around the segments of a single GPU,
which `rank_model` makes once for all layouts; `rank_groups` and `rank_optimizer` are sizes, `stretch` finds the peak.
"""
