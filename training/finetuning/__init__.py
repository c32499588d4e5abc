"""Several tasks on one trunk: labelled texts, the lessons made of them, and the heads."""
