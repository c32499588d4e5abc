"""Load tests with locust: who asks, what for, how fast, and whether the answers held.

Imports nothing of the service, so it can load any server that speaks the same routes.
"""
