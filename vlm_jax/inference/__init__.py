"""Using a trained model: `load` gives a `Predictor`; `inputs` and `output` serve the predict command."""
