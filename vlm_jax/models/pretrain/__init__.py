"""Systems of pre-training: their encoders are those of every other system, the rest is thrown away."""
