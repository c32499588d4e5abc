"""What one caller may take: bytes, requests a second, and time."""
