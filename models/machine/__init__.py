"""What this process may use: cores, memory, and how the allocator keeps it."""
