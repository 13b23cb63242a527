"""Is the model consistent with its reference: structure, thermodynamics, dynamics, other states."""
