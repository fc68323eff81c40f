"""Weights of others in, ours out: safe readers, mapping tables, strict import, export."""
