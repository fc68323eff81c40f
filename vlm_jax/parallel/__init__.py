"""Processes, meshes and partitions: where every array lives."""
