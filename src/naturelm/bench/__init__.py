"""How good a model is: answers scored against those of held-out rows, beside chance and a plain baseline."""
