"""What modular unlearning is good for beside deletion: the paper's two applications."""
