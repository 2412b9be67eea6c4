"""What checkpoints record of how images were prepared, in the words of the tools that wrote them."""
