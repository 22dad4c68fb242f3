"""What unlearning is put to beyond requests to forget."""
