"""Metrics of labels and of sentences: mergeable states, and the formulas on their sums."""
