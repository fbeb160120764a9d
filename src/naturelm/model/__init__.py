"""The model: configuration, ear, projector, joint model, processor, checkpoints."""
