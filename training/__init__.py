"""How the default model was made: pre-training, fine-tuning, evaluation. Nothing imports it."""
