"""What training writes and inference reads, without an optimiser in sight."""
