"""The comparison with the original model, and the golden answers it leaves behind."""
