"""Our own CPU kernels: one call computes the next token at the speed the memory is read."""
