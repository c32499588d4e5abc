"""What every request passes before its route, in the order of app.py."""
