"""Systems x folds x seeds on the same data: the table, the seven contrasts, the report."""
