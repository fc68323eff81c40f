"""Scoring a system on a split: units, thresholds, trivial systems, intervals by group, and the written results."""
