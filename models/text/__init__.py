"""Texts on their way to the trunk: tokens, what is cut, and the plan they are packed by."""
