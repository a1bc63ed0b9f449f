"""Infrastructure: nodes, network, names, clocks, and what machines are given of this host."""
