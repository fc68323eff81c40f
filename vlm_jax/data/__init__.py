"""Data on disk and on its way to a step: store, sources, records, splits, pipeline, the data doctor."""
