"""How a layer that is not resident gets computed: streamed to the GPU, or read ahead from disk."""
