"""Other engines on the shapes of ours, one measurement a process: what tools/bench_peers.py runs."""
