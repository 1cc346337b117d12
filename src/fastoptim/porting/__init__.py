"""What people who come from other libraries are told: other names of things, other arrays."""
