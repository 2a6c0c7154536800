"""Several processes that work as one: who they are, how they meet, and how they end together.

In order: `launch` (flags, Slurm or Open MPI say who this process is), `rollcall` (they meet; who is
missing is named), `team` (what the rest of the program asks: am I the chief, what do the others say),
`monitor` (a thread that sees who is dead, stuck, or asked to stop).
"""
