"""Training of maskwire-nano: the scene generator, the losses, the loop and its evaluation."""
