"""How fast the clients are and what they cost, next to the goals: `python -m benchmarks`, or `make bench`.

Each figure is of a whole client, a process as a user starts it, against a far end in a process of its own that does
next to nothing per message. That the far end is not the limit is shown by a bare client, which does the least that a
client can do (`bare.py`) and meets the same far end; throughput goals are shares of its rate, measured in turns with
it.
"""
