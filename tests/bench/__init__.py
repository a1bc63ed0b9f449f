"""The product's own figures: ``make bench`` measures them and writes ``reports/bench.json``. Never run as tests."""
